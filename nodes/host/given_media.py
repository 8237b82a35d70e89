"""Given sound and films, which travel in the LATENT by reference, and where a clip still holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .av_latent import split_latent, time_axes

KEY = "harmony_given"  # a tuple of GivenMedia, in the order in which they were given
SAME = 0.02  # of their spread: samplers put given latents back, through roundings
VIDEO, AUDIO = 0, 1


@dataclass(frozen=True)
class GivenMedia:
    """`media` is the VIDEO or AUDIO as it was connected, `latents` [1,C,T,...] the given ones, from `first` on."""

    stream: int
    media: Any
    latents: Tensor
    first: int

    @property
    def name(self) -> str:
        return "sound" if self.stream else "film"


@dataclass(frozen=True)
class HeldMedia:
    """Which latents of the clips, bool [B,T], still are what was given."""

    given: GivenMedia
    where: Tensor

    @property
    def everywhere(self) -> bool:
        return bool(self.where.all())


def with_media(latent: dict[str, Any], stream: int, media: Any, span: slice) -> dict[str, Any]:
    """The LATENT, with a reference to what was put into latents `span` of one stream."""
    streams = split_latent(latent)
    part = streams[stream][:1].movedim(time_axes(*streams)[stream], 2)[:, :, span]
    return {**latent, KEY: (*latent.get(KEY, ()), GivenMedia(stream, media, part, span.start))}


def held_media(latent: dict[str, Any]) -> list[HeldMedia]:
    """Everything that was given, and where it still is: what was made anew, trimmed or resized is no longer it."""
    streams = split_latent(latent)
    axes = time_axes(*streams)
    return [
        HeldMedia(given, _where(given, streams[given.stream].movedim(axes[given.stream], 2)))
        for given in latent.get(KEY, ())
    ]


def _where(given: GivenMedia, stream: Tensor) -> Tensor:
    where = torch.zeros(len(stream), stream.shape[2], dtype=torch.bool)
    part = stream[:, :, given.first : given.first + given.latents.shape[2]]
    if part.shape[1:] == given.latents.shape[1:]:
        own = given.latents.to(part)
        distance = (part - own).abs().transpose(1, 2).flatten(2).amax(2)
        where[:, given.first : given.first + part.shape[2]] = (distance <= SAME * own.std(correction=0)).cpu()
    return where
