"""Audio-video latents in ComfyUI: a NestedTensor of (video, audio), packed to [B, 1, N] while sampling."""

from __future__ import annotations

from typing import Any

import torch
from comfy.nested_tensor import NestedTensor
from comfy.utils import pack_latents, reshape_mask, unpack_latents
from torch import Tensor

from .av_models import native_latents

Shapes = list[torch.Size]
ANCHORS = "harmony_anchors"  # the mark of a LATENT that holds SyncCFG's anchors
ANCHORS_AS_LATENT = (
    "The latent input holds anchors (a still picture and silence), not a clip to make. "
    "Connect the latent output of Harmony Clip there, and its anchors to the anchors input."
)


def nest(video: Tensor, audio: Tensor) -> NestedTensor:
    return NestedTensor((video, audio))


def pack(*streams: Tensor) -> Tensor:
    """[B, 1, N]."""
    return pack_latents(streams)[0]


def unpack(packed: Tensor, shapes: Shapes) -> list[Tensor]:
    """The streams of a packed latent, whatever its batch size."""
    return unpack_latents(packed, shapes)


def time_axes(video: Tensor, audio: Tensor) -> tuple[int, int]:
    """Which axes of the two streams are time."""
    native = native_latents(video, audio)
    return 2, native.audio_time if native else 2


def split_latent(latent: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Video [B,C,T_v,h,w] and audio [B,C,...] of a LATENT.

    Raises:
        ValueError: it does not hold both, or it holds anchors.
    """
    if latent.get(ANCHORS):
        raise ValueError(ANCHORS_AS_LATENT)
    return _streams(latent, "latent")


def split_anchors(anchors: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Static video and mute audio of an anchors LATENT. Raises ValueError for any other."""
    if not anchors.get(ANCHORS):
        raise ValueError(
            "The anchors input holds a latent, not anchors. Connect the anchors output of Harmony Clip, "
            "or put Harmony Anchors between this latent and the input."
        )
    return _streams(anchors, "anchors input")


def make_anchors(static_video: Tensor, mute_audio: Tensor) -> dict[str, Any]:
    """The LATENT of SyncCFG's anchors; its mark travels with it through core's nodes."""
    samples = nest(static_video, mute_audio)
    setattr(samples, ANCHORS, True)  # samplers hand guiders the samples alone
    return {"samples": samples, ANCHORS: True}


def refuse_anchors(samples: Any) -> None:
    """Raises ValueError when what is to be sampled are anchors."""
    if getattr(samples, ANCHORS, False):
        raise ValueError(ANCHORS_AS_LATENT)


def _streams(latent: dict[str, Any], what: str) -> tuple[Tensor, Tensor]:
    samples = latent["samples"]
    if not getattr(samples, "is_nested", False) or len(samples.unbind()) != 2:
        raise ValueError(
            f"The {what} holds {'one part' if not getattr(samples, 'is_nested', False) else 'other parts'} of shape "
            f"{tuple(samples.shape)}, but video and audio are needed; make it with HarmonyClip."
        )
    video, audio = samples.unbind()
    return video, audio


def split_mask(latent: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Generate masks [B,1,T_v,h,w] and [B,1,...] (1 = generate), ones where the LATENT has none.

    Values below 0 are tokens that a guide leaves out (IC-LoRA); they stay.
    """
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
    for index, (new, given, axis) in enumerate(
        zip((video, audio), (video_given, audio_given), time_axes(*streams), strict=True)
    ):
        part = streams[index].movedim(axis, 2)[:, :, given]
        if new is not None:
            part.copy_(new.movedim(axis, 2)[:, :, : part.shape[2]].to(part))
        masks[index].movedim(axis, 2)[:, :, given].clamp_(max=0)
    if not any((mask > 0).any() for mask in masks):
        if video is not None or audio is not None:
            raise ValueError(
                "Video and sound are both given from beginning to end, so nothing is left to make; "
                "take one of the two nodes out, or give only a part."
            )
        other = masks[0 if audio_given.stop else 1]
        other[other >= 0] = 1
    return {**latent, "samples": nest(*streams), "noise_mask": nest(*masks)}
