"""Triton implementation, as ops of torch.library.

Legend: B batch, L tokens, H heads, D width (d: one head's), P rotated pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..rope import RopeTable
from ..triton_support import on_device, op_name, table_arguments, table_parts, triton
from .triton_kernels import qk_norm_rope_bwd_kernel, qk_norm_rope_fwd_kernel

NUM_PARTS = 512  # partial sums of the weights' gradients: fixed, so that results do not depend on the device

FORWARD = (
    "(Tensor q, Tensor k, Tensor weight_q, Tensor weight_k, int num_heads, Tensor cos, Tensor sin, float eps)"
    " -> (Tensor, Tensor, Tensor)"
)
BACKWARD = (
    "(Tensor grad_q, Tensor grad_k, Tensor q, Tensor k, Tensor weight_q, Tensor weight_k, Tensor inverses,"
    " int num_heads, Tensor cos, Tensor sin) -> (Tensor, Tensor, Tensor, Tensor)"
)


def qk_norm_rope_triton(
    q_BLD: Tensor, k_BLD: Tensor, weight_q_D: Tensor, weight_k_D: Tensor, num_heads: int, rope: RopeTable, eps: float
) -> tuple[Tensor, Tensor]:
    """See `qk_norm_rope_naive`.

    Raises:
        ValueError: q and k of unequal shapes, a table that does not fit.
    """
    if q_BLD.shape != k_BLD.shape:
        raise ValueError(f"q is {tuple(q_BLD.shape)} and k {tuple(k_BLD.shape)}; they must be of one shape.")
    cos, sin = table_parts(rope, q_BLD.unflatten(-1, (num_heads, -1)))
    return _forward(q_BLD, k_BLD, weight_q_D, weight_k_D, num_heads, cos, sin, eps)[:2]


def _launch(x: Tensor, num_heads: int, cos: Tensor, sin: Tensor) -> tuple[int, dict]:
    """Batch stride of the tables, and the constants of a launch."""
    head_dim = x.shape[-1] // num_heads
    _, _, stride, pairs = table_arguments(cos, sin, filler=x)
    block_h, block_d = triton.next_power_of_2(num_heads), max(2, triton.next_power_of_2(head_dim))
    constants = {
        "NUM_HEADS": num_heads,
        "HEAD_DIM": head_dim,
        "PAIRS": pairs,
        "BLOCK_H": block_h,
        "BLOCK_D": block_d,
        "num_warps": min(8, max(1, block_h * block_d // 512)),
    }
    return stride, constants


@torch.library.custom_op(op_name("qk_norm_rope"), mutates_args=(), schema=FORWARD)
def _forward(q, k, weight_q, weight_k, num_heads, cos, sin, eps):
    q, k = q.contiguous(), k.contiguous()
    out_q, out_k, inverses = _forward_outputs(q, k, num_heads)
    rows = inverses.shape[1]
    stride, constants = _launch(q, num_heads, cos, sin)
    with on_device(q):
        qk_norm_rope_fwd_kernel[(rows,)](
            q, k, weight_q.contiguous(), weight_k.contiguous(), cos, sin, out_q, out_k, inverses,
            rows, q.shape[1], stride, eps, **constants,
        )  # fmt: skip
    return out_q, out_k, inverses


def _forward_outputs(q: Tensor, k: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """q and k [B, L, H, d], and the inverse of their root mean squares, float32 [2, B * L]."""
    shape = (*q.shape[:2], num_heads, q.shape[2] // num_heads)
    out_q, out_k = (torch.empty(shape, dtype=x.dtype, device=x.device) for x in (q, k))
    return out_q, out_k, torch.empty((2, q.shape[0] * q.shape[1]), dtype=torch.float32, device=q.device)


@_forward.register_fake
def _(q, k, weight_q, weight_k, num_heads, cos, sin, eps):  # noqa: ARG001
    return _forward_outputs(q, k, num_heads)


@torch.library.custom_op(op_name("qk_norm_rope_backward"), mutates_args=(), schema=BACKWARD)
def _backward(grad_q, grad_k, q, k, weight_q, weight_k, inverses, num_heads, cos, sin):
    q, k = q.contiguous(), k.contiguous()
    out_q, out_k = torch.empty_like(q), torch.empty_like(k)
    rows = inverses.shape[1]
    rows_per_program = triton.cdiv(rows, NUM_PARTS)
    num_programs = triton.cdiv(rows, rows_per_program)
    parts = torch.empty((num_programs, 2, q.shape[-1]), dtype=torch.float32, device=q.device)
    stride, constants = _launch(q, num_heads, cos, sin)
    with on_device(q):
        qk_norm_rope_bwd_kernel[(num_programs,)](
            grad_q.contiguous(), grad_k.contiguous(), q, k, weight_q.contiguous(), weight_k.contiguous(), cos, sin,
            inverses, out_q, out_k, parts, rows, rows_per_program, q.shape[1], stride, **constants,
        )  # fmt: skip
    of_weights = (parts[:, i].sum(0).to(weight.dtype) for i, weight in enumerate((weight_q, weight_k)))
    return out_q, out_k, *of_weights


@_backward.register_fake
def _(grad_q, grad_k, q, k, weight_q, weight_k, inverses, num_heads, cos, sin):  # noqa: ARG001
    return tuple(torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, weight_q, weight_k))


def _save(ctx, inputs, output) -> None:
    q, k, weight_q, weight_k, ctx.num_heads, cos, sin, _ = inputs
    ctx.save_for_backward(q, k, weight_q, weight_k, output[2], cos, sin)


def _gradients(ctx, grad_q, grad_k, _grad_inverses):
    q, k, weight_q, weight_k, inverses, cos, sin = ctx.saved_tensors
    grads = _backward(grad_q, grad_k, q, k, weight_q, weight_k, inverses, ctx.num_heads, cos, sin)
    return *grads, None, None, None, None


_forward.register_autograd(_gradients, setup_context=_save)
