"""Torch implementation: one unmasked attention per query group, on views.

Legend: B batch, L queries, S keys, H heads, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..rope import RopeTable, apply_rope
from .naive import Groups


class _Windows(torch.autograd.Function):
    """Overlapping windows of one tensor, as views. Backward adds into one buffer.

    Autograd's own backward of a slice fills a buffer of the whole length per slice, which is quadratic in the clip.
    """

    @staticmethod
    def forward(ctx: Any, x_BSHD: Tensor, windows: tuple[tuple[int, int], ...]) -> tuple[Tensor, ...]:
        ctx.shape, ctx.windows = x_BSHD.shape, windows
        return tuple(x_BSHD[:, start:end] for start, end in windows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total_BSHD = grads[0].new_zeros(ctx.shape)
        for (start, end), grad in zip(ctx.windows, grads, strict=True):
            total_BSHD[:, start:end] += grad
        return total_BSHD, None


def _views(x_BSHD: Tensor, windows: tuple[tuple[int, int], ...]) -> tuple[Tensor, ...]:
    if torch.is_grad_enabled():
        return _Windows.apply(x_BSHD, windows)
    return tuple(x_BSHD[:, start:end] for start, end in windows)


def framewise_attention_sdpa(
    q_BLHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    groups: Groups,
    rope_q: RopeTable | None = None,
    rope_k: RopeTable | None = None,
) -> Tensor:
    """See `framewise_attention_naive`. Work and memory grow with the window, not with S."""
    windows = tuple((key_start, key_end) for _, _, key_start, key_end in groups)
    queries = apply_rope(q_BLHD, rope_q).split([end - start for start, end, _, _ in groups], dim=1)
    keys, values = _views(apply_rope(k_BSHD, rope_k), windows), _views(v_BSHD, windows)
    outputs = []
    for group in zip(queries, keys, values, strict=True):
        q, k, v = (x.transpose(1, 2) for x in group)
        outputs.append(scaled_dot_product_attention(q, k, v).transpose(1, 2))
    return torch.cat(outputs, dim=1)
