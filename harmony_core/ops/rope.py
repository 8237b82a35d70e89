"""Rotary position embedding on interleaved pairs.

Legend: B batch (or 1), L tokens, H heads, D head size, P rotated pairs (P <= D / 2; the rest pass through).
"""

from __future__ import annotations

import torch
from torch import Tensor

RopeTable = tuple[Tensor, Tensor]  # cos, sin: [B, L, P] float32


def frequency_ladder(dim: int, theta: float = 10000.0) -> Tensor:
    """Angular frequencies of `dim / 2` pairs, float64 [dim / 2]."""
    return theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)


def rope_table(positions_BL: Tensor, dim: int) -> RopeTable:
    """cos and sin for `positions_BL` on the first `dim / 2` pairs of a head."""
    angles_BLP = positions_BL.double().unsqueeze(-1) * frequency_ladder(dim).to(positions_BL.device)
    return angles_BLP.cos().float(), angles_BLP.sin().float()


def apply_rope(x_BLHD: Tensor, table: RopeTable | None) -> Tensor:
    """Rotate the first P pairs (2p, 2p + 1) of every head, in float32.

    As one complex product, which on CPU takes a quarter of the time of `apply_rope_naive`.
    """
    if table is None:
        return x_BLHD
    rotation_BL1P = torch.complex(*table).unsqueeze(2)
    still = x_BLHD.shape[-1] // 2 - rotation_BL1P.shape[-1]
    if still:
        rotation_BL1P = torch.nn.functional.pad(rotation_BL1P, (0, still), value=1.0)
    pairs_BLHP = torch.view_as_complex(x_BLHD.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs_BLHP * rotation_BL1P).flatten(-2).to(x_BLHD.dtype)


def apply_rope_naive(x_BLHD: Tensor, table: RopeTable | None) -> Tensor:
    """The same, with real numbers."""
    if table is None:
        return x_BLHD
    cos, sin = (part.unsqueeze(2) for part in table)  # [B, L, 1, P]
    rotated = 2 * cos.shape[-1]
    even, odd = x_BLHD[..., :rotated].float().unflatten(-1, (-1, 2)).unbind(-1)
    pairs = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x_BLHD.dtype)
    if rotated == x_BLHD.shape[-1]:
        return pairs
    return torch.cat((pairs, x_BLHD[..., rotated:]), dim=-1)
