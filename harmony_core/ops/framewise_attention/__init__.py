"""Attention of contiguous query groups, each to its own contiguous window of keys (paper 3.3)."""

from .naive import framewise_attention_naive
from .sdpa import framewise_attention_sdpa

__all__ = ["framewise_attention_naive", "framewise_attention_sdpa"]
