"""What a training step reads.

Legend: B clips, C channels, T_v / T_a / T_r latent frames / audio latents / reference latents, h w latent size,
S tokens, D text width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ...diffusion.latents import AVLatents


def process_rows(count: int, rank: int, processes: int) -> list[int]:
    """Which of a whole batch's rows one process runs: every `processes`-th, so that each gets some of every task."""
    return list(range(rank, count, processes))


class Voice(NamedTuple):
    """A reference that is heard whole: latents [C, T_r] float32, and token ids [S] of what it says."""

    latents: Tensor
    words: Tensor


@dataclass(frozen=True)
class ClipBatch:
    """Clips of one bucket, together.

    `clean` is float32, video [B, C, T_v, h, w] and sound [B, C, T_a], zeros where a clip lacks one; `has_video` and
    `has_sound` [B] bool say so. `video_text` and `audio_text` are features [B, S, D] float32, zero past each text, or
    token ids [B, S] int64 where the text encoder is trained too. `transcript` is ids [B, S] int64 or None for a model
    without speech, `reference` [B, C, T_r] float32 or None for a step without. For a model that reads what a reference
    says, `transcript` is words, filler behind them, and `reference` makes place for `voices`: one a clip, None
    for a clip without sound; none at all in a step without.
    """

    clean: AVLatents
    has_video: Tensor
    has_sound: Tensor
    video_text: Tensor
    audio_text: Tensor
    transcript: Tensor | None
    reference: Tensor | None
    ids: tuple[str, ...]
    voices: tuple[Voice | None, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)
