"""Torch implementation: one attention per query group on views, or per few groups where calls cost more than work.

Legend: B batch, L queries, S keys, H heads, D head size.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..constant import compile_time_constant
from ..rope import RopeTable, apply_rope
from .naive import Groups, window_mask

CALL_COST = 1 << 17  # multiply-adds of the scores that take as long as one more call


class _Windows(torch.autograd.Function):
    """Overlapping windows of one tensor, as views. Backward adds into one buffer.

    Autograd's own backward of a slice fills a buffer of the whole length per slice, which is quadratic in the clip.
    """

    @staticmethod
    def forward(ctx, x_BSHD: Tensor, windows: tuple[tuple[int, int], ...]) -> tuple[Tensor, ...]:
        ctx.shape, ctx.windows = x_BSHD.shape, windows
        return tuple(x_BSHD[:, start:end] for start, end in windows)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        total_BSHD = grads[0].new_zeros(ctx.shape)
        for (start, end), grad in zip(ctx.windows, grads, strict=True):
            total_BSHD[:, start:end] += grad
        return total_BSHD, None


@lru_cache(maxsize=64)
def merge_groups(groups: Groups, call_cost: int) -> tuple[Groups, ...]:
    """Runs of neighbouring groups to compute at once: a run grows while its extra, masked-out pairs are fewer than
    `call_cost`."""
    runs: list[list[tuple[int, int, int, int]]] = []
    for group in groups:
        alone = (group[1] - group[0]) * (group[3] - group[2])
        if runs and _area(*runs[-1], group) <= _area(*runs[-1]) + alone + call_cost:
            runs[-1].append(group)
        else:
            runs.append([group])
    return tuple(tuple(run) for run in runs)


def _area(*run: tuple[int, int, int, int]) -> int:
    return (run[-1][1] - run[0][0]) * (run[-1][3] - run[0][2])


@compile_time_constant
@lru_cache(maxsize=64)
@torch.inference_mode(False)  # it may be cached while sampling, and used in training
def _run_mask(run: Groups, device: torch.device, dtype: torch.dtype) -> Tensor | None:
    """What is added to the scores of a run: 0 inside the windows, -inf outside; None if all are inside."""
    if len(run) == 1:
        return None
    queries, keys = run[0][0], run[0][2]
    shifted = tuple((a - queries, b - queries, c - keys, d - keys) for a, b, c, d in run)
    mask = window_mask(shifted, shifted[-1][1], shifted[-1][3], device)
    return torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill(~mask, float("-inf"))


def framewise_attention_sdpa(
    q_BLHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    groups: Groups,
    rope_q: RopeTable | None = None,
    rope_k: RopeTable | None = None,
) -> Tensor:
    """See `framewise_attention_naive`. Work and memory grow with the window, not with S."""
    batch, _, heads, head_dim = q_BLHD.shape
    runs = merge_groups(groups, CALL_COST // (batch * heads * head_dim))
    windows = tuple((run[0][2], run[-1][3]) for run in runs)
    queries = apply_rope(q_BLHD, rope_q).split([run[-1][1] - run[0][0] for run in runs], dim=1)
    keys = _Windows.apply(apply_rope(k_BSHD, rope_k), windows)
    values = _Windows.apply(v_BSHD, windows)
    outputs = []
    for run, q, k, v in zip(runs, queries, keys, values, strict=True):
        mask = _run_mask(run, q.device, q.dtype)
        out = scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=mask)
        outputs.append(out.transpose(1, 2))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
