"""Torch implementation.

Legend: B batch, L tokens, H heads, D width (d: one head's).
"""

from __future__ import annotations

from torch import Tensor

from ..norm import rms_norm
from ..rope import RopeTable, apply_rope


def qk_norm_rope_torch(
    q_BLD: Tensor, k_BLD: Tensor, weight_q_D: Tensor, weight_k_D: Tensor, num_heads: int, rope: RopeTable, eps: float
) -> tuple[Tensor, Tensor]:
    """See `qk_norm_rope_naive`."""
    q, k = (
        apply_rope(rms_norm(x, weight, eps).unflatten(-1, (num_heads, -1)), rope)
        for x, weight in ((q_BLD, weight_q_D), (k_BLD, weight_k_D))
    )
    return q, k
