"""Transcript encoder: character embeddings through ConvNeXt-V2 blocks (F5-TTS style, paper 3.2.2).

Legend: B batch, S transcript tokens, E speech width, D transformer width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from ..config import SpeechConfig

FILLER = 0  # token id of padding; character c has id index(c) + 1
ABSENT = -1  # after a transcript that is read at its own length


class GlobalResponseNorm(nn.Module):
    """ConvNeXt-V2's response norm, its statistics over time."""

    def __init__(self, dim: int, **factory: Any) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(1, 1, dim, **factory))
        self.beta = nn.Parameter(torch.empty(1, 1, dim, **factory))

    def forward(self, x_BSE: Tensor) -> Tensor:
        energy = x_BSE.norm(dim=1, keepdim=True)
        response = energy / (energy.mean(dim=-1, keepdim=True) + 1e-6)
        return torch.addcmul(self.beta.to(x_BSE), self.gamma.to(x_BSE), x_BSE * response) + x_BSE


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim: int, hidden: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.dwconv = operations.Conv1d(dim, dim, kernel_size=7, padding=3, groups=dim, **factory)
        self.norm = operations.LayerNorm(dim, eps=1e-6, **factory)
        self.pwconv1 = operations.Linear(dim, hidden, **factory)
        self.grn = GlobalResponseNorm(hidden, **factory)
        self.pwconv2 = operations.Linear(hidden, dim, **factory)

    def forward(self, x_BSE: Tensor) -> Tensor:
        h = self.norm(self.dwconv(x_BSE.transpose(1, 2)).transpose(1, 2))
        return x_BSE + self.pwconv2(self.grn(gelu(self.pwconv1(h))))


class SpeechEncoder(nn.Module):
    """Token ids [B, S] to tokens [B, S, D] that the audio branch reads. Filler rows stay constant."""

    def __init__(self, speech: SpeechConfig, dim: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.text_embed = operations.Embedding(speech.vocab_size + 1, speech.dim, **factory)
        self.text_blocks = nn.ModuleList(
            ConvNeXtBlock(speech.dim, speech.conv_mult * speech.dim, operations, **factory)
            for _ in range(speech.num_blocks)
        )
        self.proj = operations.Linear(speech.dim, dim, bias=speech.reading == "self", **factory)

    def forward(self, ids_BS: Tensor, dtype: torch.dtype) -> Tensor:
        spoken_BS1 = (ids_BS != FILLER).unsqueeze(-1)
        x_BSE = self.text_embed(ids_BS).to(dtype)
        x_BSE = (x_BSE + _sinusoid(ids_BS.shape[1], x_BSE.shape[-1]).to(x_BSE)) * spoken_BS1
        for block in self.text_blocks:
            x_BSE = block(x_BSE) * spoken_BS1
        return self.proj(x_BSE)

    def encode_rows(self, ids_BS: Tensor, lengths: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The same for transcripts of unequal length, each by itself: the response norm reads all of its tokens.

        What follows a transcript's own tokens is zero.
        """
        longest = ids_BS.shape[1]
        rows = (self(ids[None, :length], dtype) for ids, length in zip(ids_BS, lengths, strict=True))
        return torch.cat([pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows])


def own_lengths(ids_BS: Tensor) -> tuple[int, ...]:
    """Tokens of each transcript that is read at its own length. Without values (the meta device) none are ABSENT."""
    if ids_BS.is_meta:
        return (ids_BS.shape[1],) * len(ids_BS)
    return tuple((ids_BS != ABSENT).sum(dim=1).tolist())


def _sinusoid(length: int, dim: int) -> Tensor:
    """Absolute positions, [cos | sin]. [S, E]."""
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2)[: dim // 2] / dim)
    angles = torch.arange(length).unsqueeze(-1) * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)
