"""Laying out a clip as an audio-video LATENT, and taking it back to pictures and sound of the length asked for."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...harmony_core.config import HarmonyConfig
from ...harmony_core.geometry import ClipGeometry, as_fraction
from ...harmony_core.media import fit_image
from .autoencoders import clip_config, decode_frames, decode_waveform, encode_frames, encode_waveform, output_rate
from .latent_format import latent_format
from .model import HarmonyModel
from .streams import give, nest, split_latent

MID_GREY = 0.5
SILENT_PEAK = 1e-3  # -60 dB


@dataclass(frozen=True)
class Clip:
    """Pictures in 0..1 and ComfyUI's AUDIO."""

    images: Tensor  # [F,H,W,3]
    audio: dict[str, Any]
    fps: Fraction


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
    the autoencoders. Raises ValueError as ClipGeometry does, and for autoencoders of another model.
    """
    config = _config(vae, audio_vae, model)
    height, width = height or config.height, width or config.width
    geometry = ClipGeometry.from_seconds(
        seconds or as_fraction(config.seconds), fps or config.fps, height, width, config
    )
    duration = Fraction(geometry.num_frames) / geometry.fps
    heard, rate = output_rate(audio_vae), audio_vae.audio_sample_rate
    notes = [
        f"{geometry.duration_s:g} s: {geometry.num_frames_asked} frames at {float(geometry.fps):g} fps, "
        f"{_num_samples(geometry.num_frames_asked, geometry.fps, heard)} samples at {heard} Hz",
        *geometry.snapped,
    ]
    mute = encode_waveform(audio_vae, torch.zeros(1, 1, round(duration * rate)), geometry.num_audio_latents)
    # zeros in the model's own scale, so that a masked part starts where an empty latent should
    video = latent_format(config).process_out(torch.zeros(geometry.video_shape(batch_size, config.video_channels)))
    audio = torch.zeros(batch_size, *mute.shape[1:])
    still_1HWC = torch.full((1, height, width, 3), MID_GREY)
    latent: dict[str, Any] = {"samples": nest(video, audio)}
    latent["harmony_clip"] = {
        "num_frames": geometry.num_frames_asked,
        "fps": geometry.fps,
        "sample_rate": heard,
    }
    if first_frame is not None:
        still_1HWC, changes = fitted_picture(first_frame, height, width)
        notes += changes
        latent = give(latent, video=encode_frames(vae, still_1HWC), video_given=slice(0, 1))
    static = encode_frames(vae, still_1HWC.expand(geometry.num_frames, -1, -1, -1))
    return latent, {"samples": nest(static, mute)}, tuple(notes)


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


def decode_clip(
    latent: dict[str, Any], vae: Any, audio_vae: Any, chunk_seconds: float = 0.0, tile: int = 0
) -> tuple[list[Clip], list[str]]:
    """Every clip of the batch, cut to the frames and samples asked for, and warnings about its sound.

    `chunk_seconds` are decoded at once (0 = all), pictures in tiles of `tile` pixels (0 = whole pictures).

    Raises:
        ValueError: a LATENT that does not come from HarmonyClip.
    """
    asked = latent.get("harmony_clip")
    if asked is None:
        raise ValueError("The latent does not say how long its clip is; start from HarmonyClip.")
    video, audio = split_latent(latent)
    frames_per_latent = Fraction(asked["num_frames"], video.shape[2])
    chunk = ceil(as_fraction(chunk_seconds) * asked["fps"] / frames_per_latent)
    images_BFHWC = decode_frames(vae, video, chunk, tile)[:, : asked["num_frames"]]
    waveform_BCN, rate = decode_waveform(audio_vae, audio, as_fraction(chunk_seconds))
    num_samples = _num_samples(asked["num_frames"], asked["fps"], rate)
    waveform_BCN = pad(waveform_BCN, (0, max(0, num_samples - waveform_BCN.shape[-1])))[..., :num_samples]
    clips = [
        Clip(images, {"waveform": waveform[None], "sample_rate": rate}, asked["fps"])
        for images, waveform in zip(images_BFHWC, waveform_BCN, strict=True)
    ]
    return clips, [warning for index, waveform in enumerate(waveform_BCN) for warning in _loudness(waveform, index)]


def _num_samples(num_frames: int, fps: Fraction, rate: int) -> int:
    return round(Fraction(num_frames) / fps * rate)


def fitted_picture(image: Tensor, height: int, width: int) -> tuple[Tensor, list[str]]:
    """The first picture of an IMAGE in the clip's size, [1,H,W,3] in 0..1."""
    pixels = (image[0, ..., :3] * 255).round().clamp(0, 255).byte().cpu().numpy()
    fitted, notes = fit_image(pixels, height, width, "first frame")
    extra = [f"first frame: the first of {len(image)} pictures"] if len(image) > 1 else []
    return torch.from_numpy(fitted.copy())[None].float() / 255, [*extra, *notes]


def _loudness(waveform_CN: Tensor, index: int) -> list[str]:
    """What is wrong with a sound's level."""
    if not bool(waveform_CN.isfinite().all()):
        return [f"clip {index}: the sound has values that are not numbers; a scale is probably too high."]
    peak = float(waveform_CN.abs().max())
    if peak < SILENT_PEAK:
        return [f"clip {index}: the sound is silent (peak {peak:.1e})."]
    if peak > 1:
        return [f"clip {index}: the sound clips (peak {peak:.2f}); lower it with core's audio volume node."]
    return []
