"""What a transformer reads in one pass: an input per stream, and what the pass does with each row.

Legend: B batch, C channels, T_v / T_a latent frames / audio latents, T_r of a reference, J references, S text tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from .driver_cache import DriverCache
from .roles import take_rows
from .speech import ABSENT


@dataclass(frozen=True)
class VideoInput:
    """The video stream's side of a pass.

    latents: [B, C, T_v, h, w]; sigma: their noise levels 0..1, [B, T_v]; context: text features [B, <= text_len,
    text_dim]; reference: clean latent frames [B, C, J, h, w], for a model whose references are appended.
    """

    latents: Tensor
    sigma: Tensor
    context: Tensor
    reference: Tensor | None = None


@dataclass(frozen=True)
class AudioInput:
    """The audio stream's side of a pass.

    latents: [B, C, T_a]; sigma: [B, T_a]; context: text features [B, <= text_len, text_dim]; transcript: int64
    [B, max_len], filler-padded (0), or where it is read across [B, S], ABSENT behind a row's own tokens; reference:
    clean latents [B, C, T_r], and where references are appended also [B, C, J, T_r].
    """

    latents: Tensor
    sigma: Tensor
    context: Tensor
    transcript: Tensor | None = None
    reference: Tensor | None = None


Input = TypeVar("Input", VideoInput, AudioInput)


class AVInput(NamedTuple):
    """Both sides; `audio` is None for a model without an audio branch."""

    video: VideoInput
    audio: AudioInput | None

    def without(self, stream: str) -> AVInput:
        """The same with the reference of `video` or `audio` of zeros."""
        side = getattr(self, stream)
        return self._replace(**{stream: replace(side, reference=torch.zeros_like(side.reference))})

    def saying(self, transcript: Tensor) -> AVInput:
        """The same with another transcript."""
        assert self.audio is not None
        return self._replace(audio=replace(self.audio, transcript=transcript))


@dataclass(frozen=True)
class Rows:
    """What a pass does with each row of the batch, and with all of them.

    Args:
        roles: per row, `joint`, `audio_given`, `video_given` or `isolated`; empty = all joint.
        drivers: per row, a name of its driver under which `cache` keeps it; empty = none.
        cache: keys and values of drivers; a driver found there is not run.
        skip_layers: layers that pass both streams through unchanged (skip-layer guidance).
        stop_drivers: whether gradients end where a stream reads a driver, in training.
    """

    roles: tuple[str, ...] = ()
    drivers: tuple[Hashable, ...] = ()
    cache: DriverCache | None = None
    skip_layers: frozenset[int] = frozenset()
    stop_drivers: bool = False


def picture_before(latents: Tensor) -> Tensor:
    """What a model that starts from a picture sees before a clip: its first latent, which is that of the first frame
    alone (the autoencoder is causal), clean because it is given. [B, C, 1, h, w]."""
    return latents[:, :, :1]


def clean_sigma(latents: Tensor) -> Tensor:
    """Noise levels of latents that are clean: 0 for each latent frame or audio latent. [B, T]."""
    return latents.new_zeros(len(latents), latents.shape[2])


def pick_rows(inputs: Input, rows: tuple[int, ...]) -> Input:
    """Some rows of one side."""
    return replace(inputs, **{name: take_rows(x, rows) for name, x in vars(inputs).items() if x is not None})


def join_rows(parts: Sequence[AVInput]) -> AVInput:
    """Passes as one batch. Text features may differ in length: they are padded with zeros, as the transformer does."""
    video, audio = zip(*parts, strict=True)
    return AVInput(_join(video), None if audio[0] is None else _join(audio))


def same_length(transcripts: list[Tensor]) -> list[Tensor]:
    """Transcripts at their own length are told apart from what follows them."""
    longest = max(ids.shape[1] for ids in transcripts)
    return [pad(ids, (0, longest - ids.shape[1]), value=ABSENT) for ids in transcripts]


def _join(parts: Sequence[Input]) -> Input:
    if len(parts) == 1:
        return parts[0]
    longest = max(part.context.shape[1] for part in parts)
    parts = [replace(part, context=pad(part.context, (0, 0, 0, longest - part.context.shape[1]))) for part in parts]
    names = [name for name, x in vars(parts[0]).items() if x is not None]
    columns = {name: [getattr(part, name) for part in parts] for name in names}
    if "transcript" in columns:
        columns["transcript"] = same_length(columns["transcript"])
    return replace(parts[0], **{name: torch.cat(column) for name, column in columns.items()})
