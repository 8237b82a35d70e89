"""Frozen layers that are stored small and computed with at full width, a layer at a time.

A gradient passes through them and never moves them, so that a weight is only ever read: in 8 bits, with a scale a row,
it takes a quarter of float32. The product keeps the stored weight for its gradient, not the one it was computed with.

Legend: B rows of all kinds, I inputs, O outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available
from torch.nn.functional import linear

FLOAT32, BFLOAT16, FLOAT8 = "float32", "bfloat16", "float8"
STORED = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16, FLOAT8: torch.float8_e4m3fn}


def _dequantised(weight_OI: Tensor, scale_O1: Tensor | None, dtype: torch.dtype) -> Tensor:
    weight = weight_OI.to(dtype)
    return weight if scale_O1 is None else weight * scale_O1.to(dtype)


def dequantised_linear_naive(x_BI: Tensor, weight_OI: Tensor, scale_O1: Tensor | None, bias_O: Tensor | None) -> Tensor:
    """x W^T + b, with the weight at the inputs' width."""
    weight = _dequantised(weight_OI, scale_O1, x_BI.dtype)
    return linear(x_BI, weight, None if bias_O is None else bias_O.to(x_BI.dtype))


class _DequantisedLinear(torch.autograd.Function):
    """The same, keeping what is stored."""

    @staticmethod
    def forward(ctx: Any, x_BI: Tensor, weight_OI: Tensor, scale_O1: Tensor | None, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight_OI, scale_O1)
        return dequantised_linear_naive(x_BI, weight_OI, scale_O1, bias_O)

    @staticmethod
    def backward(ctx: Any, grad_BO: Tensor) -> tuple[Tensor, None, None, None]:
        weight_OI, scale_O1 = ctx.saved_tensors
        return grad_BO @ _dequantised(weight_OI, scale_O1, grad_BO.dtype), None, None, None


class StoredLinear(nn.Linear):
    """A frozen linear layer, stored in `dtype`."""

    def __init__(self, source: nn.Linear, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = source.in_features, source.out_features
        weight, scale = source.weight.detach(), None
        if dtype == torch.float8_e4m3fn:
            largest = weight.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-12)
            scale = largest / torch.finfo(dtype).max
            weight = weight / scale
        self.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        self.bias = None if source.bias is None else nn.Parameter(source.bias.detach(), requires_grad=False)
        self.register_buffer("scale", scale)

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            input = input.to(torch.get_autocast_dtype(kind))
        return _DequantisedLinear.apply(input, self.weight, self.scale, self.bias)


def store_frozen(model: nn.Module, stored: str) -> None:
    """Store every linear layer of which nothing is trained as `stored` says; what is trained becomes float32, as does
    the little that is no linear layer."""
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is nn.Linear and not any(each.requires_grad for each in module.parameters()):
                setattr(parent, name, StoredLinear(module, STORED[stored]))
    kept = {id(each.weight) for each in model.modules() if isinstance(each, StoredLinear)}
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.data = parameter.data.float()
