"""RMS norm with a backward of few passes over memory.

torch.nn.functional.rms_norm has no kernel of its own on CPU: as a chain of elementwise ops it takes about three times
as long, forward and backward, at the widths of the embedded model.

Legend: D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x32 = x.float()
        mean_square = torch.linalg.vector_norm(x32, dim=-1, keepdim=True).square() / x.shape[-1]
        inverse = (mean_square + eps).rsqrt()
        normed = x32 * inverse
        ctx.save_for_backward(normed, inverse, weight)
        ctx.dtype = x.dtype
        return (normed * weight.float()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, inverse, weight = ctx.saved_tensors
        grad, dim = grad.float(), normed.shape[-1]
        products = (grad * normed).reshape(-1, dim)
        along = (products @ weight.float() / dim).view(inverse.shape)
        grad_x = torch.addcmul(grad * weight.float(), normed, along, value=-1) * inverse
        return grad_x.to(ctx.dtype), products.sum(0).to(weight.dtype), None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in float32, returned in the dtype of x."""
    return _RMSNorm.apply(x, weight, eps)


def rms_norm_naive(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same, written as its formula."""
    x32 = x.float()
    return (x32 * (x32.square().mean(-1, keepdim=True) + eps).rsqrt() * weight.float()).to(x.dtype)
