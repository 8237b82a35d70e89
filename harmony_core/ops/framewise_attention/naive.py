"""Reference implementation: one full attention matrix with a mask, in float32.

Legend: B batch, L queries, S keys, H heads, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..rope import RopeTable, apply_rope

Groups = tuple[tuple[int, int, int, int], ...]  # (query_start, query_end, key_start, key_end)


def window_mask(groups: Groups, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """Boolean [L, S]: which keys each query may attend to."""
    mask = torch.zeros(num_queries, num_keys, dtype=torch.bool, device=device)
    for query_start, query_end, key_start, key_end in groups:
        mask[query_start:query_end, key_start:key_end] = True
    return mask


def framewise_attention_naive(
    q_BLHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    groups: Groups,
    rope_q: RopeTable | None = None,
    rope_k: RopeTable | None = None,
) -> Tensor:
    """Softmax attention of each query group over its key window.

    Args:
        groups: contiguous and covering all L queries in order; windows are non-empty and monotone.
        rope_q, rope_k: cos and sin tables [B or 1, L or S, P], applied to q and k first.

    Returns:
        [B, L, H, D] in the dtype of q.
    """
    q, k = (apply_rope(x, table).float() for x, table in ((q_BLHD, rope_q), (k_BSHD, rope_k)))
    scores_BHLS = torch.einsum("blhd,bshd->bhls", q, k) * q.shape[-1] ** -0.5
    mask = window_mask(groups, q.shape[1], k.shape[1], q.device)
    weights = scores_BHLS.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.einsum("bhls,bshd->blhd", weights, v_BSHD.float()).to(q_BLHD.dtype)
