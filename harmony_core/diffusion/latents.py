"""The pair of latents that every step handles together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class AVLatents(NamedTuple):
    """video [B, C, T_v, h, w] and audio [B, C, T_a] (None for a model without an audio branch)."""

    video: Tensor
    audio: Tensor | None

    @property
    def sound(self) -> Tensor:
        """`audio`, where there has to be some."""
        assert self.audio is not None
        return self.audio

    def map(self, function: Callable[..., Tensor], *others: AVLatents) -> AVLatents:
        """Apply `function` to each modality, with the same modality of `others`."""
        audio = None if self.audio is None else function(self.audio, *(other.audio for other in others))
        return AVLatents(function(self.video, *(other.video for other in others)), audio)


def draw_noise(video_shape: tuple[int, ...], audio_shape: tuple[int, ...] | None, seed: int) -> AVLatents:
    """Unit noise from one CPU generator: video first, then audio. Batch items differ; devices do not."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(video_shape, generator=generator)
    return AVLatents(video, None if audio_shape is None else torch.randn(audio_shape, generator=generator))


def stack(rows: Sequence[AVLatents]) -> AVLatents:
    """Rows of one batch, joined along it."""
    audio = None if rows[0].audio is None else torch.cat([row.sound for row in rows])
    return AVLatents(torch.cat([row.video for row in rows]), audio)
