"""Audio-video latents in ComfyUI: a NestedTensor of (video, audio), packed to [B, 1, N] while sampling."""

from __future__ import annotations

from typing import Any

import torch
from comfy.nested_tensor import NestedTensor
from comfy.utils import pack_latents, reshape_mask, unpack_latents
from torch import Tensor

Shapes = list[torch.Size]


def nest(video: Tensor, audio: Tensor) -> NestedTensor:
    return NestedTensor((video, audio))


def pack(*streams: Tensor) -> Tensor:
    """[B, 1, N]."""
    return pack_latents(streams)[0]


def unpack(packed: Tensor, shapes: Shapes) -> list[Tensor]:
    """The streams of a packed latent, whatever its batch size."""
    return unpack_latents(packed, shapes)


def split_latent(latent: dict[str, Any], what: str = "latent") -> tuple[Tensor, Tensor]:
    """Video [B,C,T_v,h,w] and audio [B,C,...] of a LATENT. Raises ValueError if it does not hold both."""
    samples = latent["samples"]
    if not getattr(samples, "is_nested", False) or len(samples.unbind()) != 2:
        raise ValueError(
            f"The {what} holds {'one part' if not getattr(samples, 'is_nested', False) else 'other parts'} of shape "
            f"{tuple(samples.shape)}, but video and audio are needed; make it with HarmonyClip."
        )
    video, audio = samples.unbind()
    return video, audio


def split_mask(latent: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Generate masks [B,1,T_v,h,w] and [B,1,T_a] (1 = generate), ones where the LATENT has none."""
    video, audio = split_latent(latent)
    masks = latent.get("noise_mask")
    given = [] if masks is None else masks.unbind() if getattr(masks, "is_nested", False) else [masks]
    full = [video.new_ones(len(video), 1, *video.shape[2:]), audio.new_ones(len(audio), 1, *audio.shape[2:])]
    for index, mask in enumerate(given):
        full[index] = full[index] * reshape_mask(mask.to(full[index]), full[index].shape)  # core's are of pixels
    return full[0], full[1]


def give(
    latent: dict[str, Any],
    video: Tensor | None = None,
    video_given: slice = slice(0),
    audio: Tensor | None = None,
    audio_given: slice = slice(0),
) -> dict[str, Any]:
    """A copy of a LATENT in which latents of one stream are given: their mask is 0.

    Args:
        video, audio: what to put there, for one clip or for each of the batch; None keeps what the LATENT holds.
        video_given, audio_given: which latents, counted in time.

    A stream whose latents are kept after the other one was given is what the other is made anew for.

    Raises:
        ValueError: new media that leave nothing to make.
    """
    streams, masks = [part.clone() for part in split_latent(latent)], list(split_mask(latent))
    for index, (new, given) in enumerate(((video, video_given), (audio, audio_given))):
        if new is not None:
            streams[index][:, :, given] = new[:, :, : streams[index][:, :, given].shape[2]].to(streams[index])
        masks[index][:, :, given] = 0
    if not any(mask.any() for mask in masks):
        if video is not None or audio is not None:
            raise ValueError(
                "Video and sound are both given from beginning to end, so nothing is left to make; "
                "take one of the two nodes out, or give only a part."
            )
        masks[0 if audio_given.stop else 1][:] = 1
    return {**latent, "samples": nest(*streams), "noise_mask": nest(*masks)}
