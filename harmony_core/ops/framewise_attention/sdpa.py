"""Torch implementation: one unmasked attention per query group, on views.

Legend: B batch, L queries, S keys, H heads, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..rope import RopeTable, apply_rope
from .naive import Groups


def framewise_attention_sdpa(
    q_BLHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    groups: Groups,
    rope_q: RopeTable | None = None,
    rope_k: RopeTable | None = None,
) -> Tensor:
    """See `framewise_attention_naive`. Work and memory grow with the window, not with S."""
    q_BHLD = apply_rope(q_BLHD, rope_q).transpose(1, 2)
    k_BHSD = apply_rope(k_BSHD, rope_k).transpose(1, 2)
    v_BHSD = v_BSHD.transpose(1, 2)
    outputs = [
        scaled_dot_product_attention(
            q_BHLD[:, :, query_start:query_end],
            k_BHSD[:, :, key_start:key_end],
            v_BHSD[:, :, key_start:key_end],
        )
        for query_start, query_end, key_start, key_end in groups
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2)
