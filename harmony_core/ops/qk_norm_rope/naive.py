"""Reference implementation, as its formula.

Legend: B batch, L tokens, H heads, D width (d: one head's), P rotated pairs.
"""

from __future__ import annotations

from torch import Tensor

from ..norm import rms_norm_naive
from ..rope import RopeTable, apply_rope_naive


def qk_norm_rope_naive(
    q_BLD: Tensor, k_BLD: Tensor, weight_q_D: Tensor, weight_k_D: Tensor, num_heads: int, rope: RopeTable, eps: float
) -> tuple[Tensor, Tensor]:
    """RMS norm of q and of k over all heads together, then rotation of the first P pairs of every head.

    Args:
        rope: cos and sin [B or 1, L, P] float32, for q and k alike.

    Returns:
        q and k as [B, L, H, d], in their own dtypes. The normed values are rounded to it before they are rotated.
    """
    q, k = (
        apply_rope_naive(rms_norm_naive(x, weight, eps).unflatten(-1, (num_heads, -1)), rope)
        for x, weight in ((q_BLD, weight_q_D), (k_BLD, weight_k_D))
    )
    return q, k
