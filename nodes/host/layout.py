"""An empty clip, and the anchors that SyncCFG guides away from: a still picture and silence."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import torch
from torch import Tensor

from ...harmony_core.config import HarmonyConfig
from ...harmony_core.geometry import (
    ClipGeometry,
    as_fraction,
    beyond_training,
    check_clip_form,
    size_of_picture,
)
from .autoencoders import (
    audio_latent_rate,
    check_pair,
    clip_config,
    decode_frames,
    encode_frames,
    encode_waveform,
    output_rate,
)
from .av_latent import give, make_anchors, nest, split_latent
from .av_models import LatentKind, native_audio
from .clips import check_audio_vae, fitted_picture, latent_kind, num_samples, pixel_size
from .latent_format import latent_format
from .model import HarmonyModel

MID_GREY = 0.5


def empty_clip(
    vae: Any,
    audio_vae: Any,
    seconds: float,
    fps: float,
    width: int,
    height: int,
    batch_size: int = 1,
    first_frame: Tensor | None = None,
    model: Any = None,
) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """An empty LATENT, its anchors LATENT, and what a person should know about the lengths.

    0 seconds, fps, width or height is the checkpoint's own: that of `model` if it is one of ours, else what goes with
    the autoencoders; of a model that starts from a picture, a size of 0 is in the shape of `first_frame`. Raises
    ValueError as ClipGeometry and check_clip_form do, and for autoencoders of another model.
    """
    config = _config(vae, audio_vae, model)
    if config.starts_from_picture:
        check_clip_form(seconds or None, fps or None, config, "set it to 0")
        if first_frame is not None and not (height or width):
            height, width = size_of_picture(first_frame.shape[1], first_frame.shape[2], config)
    height, width = height or config.height, width or config.width
    geometry = ClipGeometry.from_seconds(
        seconds or as_fraction(config.seconds), fps or config.fps, height, width, config
    )
    duration = Fraction(geometry.num_frames) / geometry.fps
    heard, rate = output_rate(audio_vae), audio_vae.audio_sample_rate
    notes = [
        f"{geometry.duration_s:g} s: {geometry.num_frames_asked} frames at {float(geometry.fps):g} fps, "
        f"{num_samples(geometry.num_frames_asked, geometry.fps, heard)} samples at {heard} Hz",
        *geometry.snapped,
        *(() if native_audio(audio_vae) else beyond_training(geometry, config)),  # LTX-2 was trained at many
    ]
    count = _core_length(audio_vae, geometry) or geometry.num_audio_latents
    mute = encode_waveform(audio_vae, torch.zeros(1, 1, round(duration * rate)), count)
    # zeros in the model's own scale, so that a masked part starts where an empty latent should
    video = latent_format(config).process_out(torch.zeros(geometry.video_shape(batch_size, config.video_channels)))
    audio = torch.zeros(batch_size, *mute.shape[1:])
    still_1HWC = torch.full((1, height, width, 3), MID_GREY)
    latent: dict[str, Any] = {"samples": nest(video, audio)}
    latent["harmony_clip"] = {
        "num_frames": geometry.num_frames_asked,
        "fps": geometry.fps,
        "sample_rate": heard,
        "latents": (geometry.num_latent_frames, count),
        "temporal_stride": config.temporal_stride,
        "audio_latent_rate": audio_latent_rate(audio_vae),
    }
    if first_frame is not None:
        still_1HWC, changes = fitted_picture(first_frame, height, width)
        notes += changes
        latent = give(latent, video=encode_frames(vae, still_1HWC), video_given=slice(0, 1))
    static = encode_frames(vae, still_1HWC.expand(geometry.num_frames, -1, -1, -1))
    return latent, make_anchors(static, mute), tuple(notes)


def _core_length(audio_vae: Any, geometry: ClipGeometry) -> int | None:
    """How many audio latents core's own nodes give a clip of LTX-2 (rounded up or not, by version); else None."""
    rule = getattr(audio_vae.first_stage_model, "num_of_latents_from_frames", None)
    return rule(geometry.num_frames, float(geometry.fps)) if rule else None


def anchors_of(
    latent: dict[str, Any], vae: Any, audio_vae: Any, first_frame: Tensor | None, positive: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Anchors in the shapes of any audio-video LATENT, and what a person should know about them.

    The still is `first_frame`, else the clip's own first frame where it has one, else grey.

    Raises:
        ValueError: autoencoders of another model than the latent's.
    """
    kind = check_coders(latent, vae, audio_vae)
    video, audio = (stream[:1] for stream in split_latent(latent))
    length = video.shape[2] - _num_guides(positive, video)
    static, notes = _static_video(kind, vae, video[:, :, :length], first_frame)
    static = torch.cat((static.to(video), video[:, :, length:]), dim=2)  # guides stay what they are
    mute = encode_waveform(audio_vae, torch.zeros(1, 1, 0), audio.shape[kind.audio_time])
    return make_anchors(static, mute), notes


def check_coders(latent: dict[str, Any], vae: Any, audio_vae: Any) -> LatentKind:
    """Whose latents these are. Raises ValueError for autoencoders of another model, or swapped ones."""
    audio = split_latent(latent)[1]
    check_pair(vae, audio_vae)
    kind = latent_kind(latent, vae)
    check_audio_vae(audio, audio_vae)
    return kind


def _static_video(
    kind: LatentKind, vae: Any, video: Tensor, first_frame: Tensor | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Latents of a still in the shape of `video` [1,C,T,h,w], encoded no further than they repeat."""
    length, own = video.shape[2], video[:, :, :1]
    height, width = pixel_size(video, vae)
    notes: tuple[str, ...] = ()
    if first_frame is not None:
        still_1HWC, changes = fitted_picture(first_frame, height, width)
        notes = tuple(changes)
    elif bool((own.amax((3, 4)) == own.amin((3, 4))).all()):  # one value per channel: nothing has been put there
        still_1HWC, notes = torch.full((1, height, width, 3), MID_GREY), ("no first frame: the still is grey",)
    elif kind.still_frames == 1:
        return own.expand(-1, -1, length, -1, -1), notes
    else:
        still_1HWC = decode_frames(vae, own)[0]
    frames = kind.num_frames(length)
    static = encode_frames(vae, still_1HWC.expand(min(kind.still_frames or frames, frames), -1, -1, -1))
    if kind.still_frames:
        static = static[:, :, : kind.still_period].repeat(1, 1, ceil(length / kind.still_period), 1, 1)
    return static[:, :, :length], notes


def _num_guides(positive: Any, video: Tensor) -> int:
    """How many latents at the end of a video are guides that LTXVAddGuide appended, as the conditioning says."""
    for _, extra in positive or ():
        entries = extra.get("guide_attention_entries")
        if entries:
            return sum(entry["latent_shape"][0] for entry in entries)
        if extra.get("keyframe_idxs") is not None:
            return extra["keyframe_idxs"].shape[2] // (video.shape[3] * video.shape[4])
    return 0


def _config(vae: Any, audio_vae: Any, model: Any) -> HarmonyConfig:
    """Whose lengths a clip gets. Raises ValueError for autoencoders of another model."""
    config = clip_config(vae, audio_vae)
    if model is None or not isinstance(model.model, HarmonyModel):
        return config
    own = model.model.harmony
    if (own.video_channels, own.audio_channels) != (config.video_channels, config.audio_channels):
        raise ValueError(
            f"The model makes latents of {own.video_channels} and {own.audio_channels} channels, but these "
            f"autoencoders have {config.video_channels} and {config.audio_channels}; take those of the model."
        )
    return own
