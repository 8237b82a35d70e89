"""Patch, time and head layers of a branch.

Legend: B batch, T latent positions, K distinct noise levels, L tokens, D width, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu


def timestep_embedding(sigma: Tensor, dim: int) -> Tensor:
    """Sinusoid of 1000 * sigma, [cos | sin], in float64 (Wan's order). [..., dim]."""
    half = dim // 2
    frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=sigma.device) / half)
    angles = 1000.0 * sigma.double().unsqueeze(-1) * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class SwiGLUConvEmbedding(nn.Module):
    """Ovi's gated convolutional audio patch embedding after its first convolution (keys w1, w2, w3)."""

    def __init__(self, dim: int, hidden: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        conv = {"kernel_size": 7, "padding": 3, "bias": False, **factory}
        self.w1 = operations.Conv1d(dim, hidden, **conv)
        self.w2 = operations.Conv1d(hidden, dim, **conv)
        self.w3 = operations.Conv1d(dim, hidden, **conv)

    def forward(self, x_BDT: Tensor) -> Tensor:
        return self.w2(silu(self.w1(x_BDT)) * self.w3(x_BDT))


class Head(nn.Module):
    """Modulated LayerNorm and the projection to latent patches."""

    def __init__(self, dim: int, out_dim: int, eps: float, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm = operations.LayerNorm(dim, eps=eps, elementwise_affine=False, **factory)
        self.head = operations.Linear(dim, out_dim, **factory)
        self.modulation = nn.Parameter(torch.empty(1, 2, dim, **factory))

    def forward(self, x_BLD: Tensor, e_BTD: Tensor) -> Tensor:
        """Uses the time embedding itself, not its projection. [B, L, out_dim]."""
        shift, scale = (self.modulation.to(x_BLD).unsqueeze(1) + e_BTD.unsqueeze(2)).unbind(2)
        return self.head(modulate(self.norm(x_BLD), shift, scale))


def modulate(x_BLD: Tensor, shift_BTD: Tensor, scale_BTD: Tensor) -> Tensor:
    """x * (1 + scale) + shift, each latent position's values spread over its L / T tokens."""
    x_BTND = x_BLD.unflatten(1, (shift_BTD.shape[1], -1))
    return torch.addcmul(shift_BTD.unsqueeze(2), x_BTND, 1 + scale_BTD.unsqueeze(2)).flatten(1, 2)


def gated_add(x_BLD: Tensor, y_BLD: Tensor, gate_BTD: Tensor) -> Tensor:
    """x + y * gate, each latent position's gate spread over its L / T tokens."""
    positions = gate_BTD.shape[1]
    x_BTND, y_BTND = x_BLD.unflatten(1, (positions, -1)), y_BLD.unflatten(1, (positions, -1))
    return torch.addcmul(x_BTND, y_BTND, gate_BTD.unsqueeze(2)).flatten(1, 2)
