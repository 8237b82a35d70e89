"""Which implementation of an op runs where."""

from __future__ import annotations

import os

from torch import Tensor

from .framewise_attention import framewise_attention_naive, framewise_attention_sdpa

FRAMEWISE_ATTENTION = {"naive": framewise_attention_naive, "sdpa": framewise_attention_sdpa}


def framewise_attention(q_BLHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, groups, rope_q=None, rope_k=None) -> Tensor:
    """Frame-wise attention by the implementation that `HARMONY_FRAMEWISE_ATTENTION` names (default: sdpa)."""
    name = os.environ.get("HARMONY_FRAMEWISE_ATTENTION", "sdpa")
    if name not in FRAMEWISE_ATTENTION:
        raise ValueError(f"HARMONY_FRAMEWISE_ATTENTION is {name!r}; choose one of {', '.join(FRAMEWISE_ATTENTION)}.")
    return FRAMEWISE_ATTENTION[name](q_BLHD, k_BSHD, v_BSHD, groups, rope_q, rope_k)
