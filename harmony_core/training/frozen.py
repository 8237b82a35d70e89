"""Frozen layers that are stored small and computed with at full width, a layer at a time.

A gradient passes through them and never moves them, so that a weight is only ever read: in 8 bits, with a scale a row,
it takes a quarter of float32. The product keeps the stored weight for its gradient, not the one it was computed with,
so that it may lie in the host's memory and come to the device twice: for the product, and for the gradient.

Legend: B rows of all kinds, I inputs, O outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available
from torch.nn.functional import linear

FLOAT32, BFLOAT16, FLOAT8 = "float32", "bfloat16", "float8"
DEVICE, HOST = "device", "host"
STORED = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16, FLOAT8: torch.float8_e4m3fn}


def _dequantised(weight_OI: Tensor, scale_O1: Tensor | None, like: Tensor) -> Tensor:
    # First to the device, as narrow as it is stored.
    weight = weight_OI.to(like.device, non_blocking=True).to(like.dtype)
    return weight if scale_O1 is None else weight * scale_O1.to(like.dtype)


def dequantised_linear_naive(x_BI: Tensor, weight_OI: Tensor, scale_O1: Tensor | None, bias_O: Tensor | None) -> Tensor:
    """x W^T + b, with the weight at the inputs' width."""
    weight = _dequantised(weight_OI, scale_O1, x_BI)
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
        return grad_BO @ _dequantised(weight_OI, scale_O1, grad_BO), None, None, None


class StoredLinear(nn.Linear):
    """A frozen linear layer, stored in `dtype`. On the `host` its weight stays, in memory that a GPU copies from by
    itself, when the layer moves to a device."""

    def __init__(self, source: nn.Linear, dtype: torch.dtype, host: bool = False) -> None:
        nn.Module.__init__(self)
        self.host = host
        self.in_features, self.out_features = source.in_features, source.out_features
        weight, scale = source.weight.detach(), None
        if dtype == torch.float8_e4m3fn:
            largest = weight.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-12)
            scale = largest / torch.finfo(dtype).max
            weight = weight / scale
        weight = weight.to(dtype)
        pinned = host and torch.cuda.is_available() and weight.device.type == "cpu"
        self.weight = nn.Parameter(weight.pin_memory() if pinned else weight, requires_grad=False)
        self.bias = None if source.bias is None else nn.Parameter(source.bias.detach(), requires_grad=False)
        self.register_buffer("scale", scale)

    def _apply(self, fn: Any, recurse: bool = True) -> StoredLinear:
        if not self.host:
            return super()._apply(fn, recurse)
        weight = self._parameters.pop("weight")
        super()._apply(fn, recurse)
        self._parameters["weight"] = weight
        return self

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            input = input.to(torch.get_autocast_dtype(kind))
        return _DequantisedLinear.apply(input, self.weight, self.scale, self.bias)


def store_frozen(model: nn.Module, stored: str, where: str = DEVICE) -> None:
    """Store every linear layer of which nothing is trained as `stored` says, on the device or the host; what is trained
    becomes float32, as does the little that is no linear layer."""
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is nn.Linear and not any(each.requires_grad for each in module.parameters()):
                setattr(parent, name, StoredLinear(module, STORED[stored], where == HOST))
    kept = {id(each.weight) for each in model.modules() if isinstance(each, StoredLinear)}
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.data = parameter.data.float()


def bytes_on_host(model: nn.Module) -> int:
    """Of weights that stay there."""
    return sum(each.weight.nbytes for each in model.modules() if isinstance(each, StoredLinear) and each.host)
