"""Pictures and sound that a clip is given, at the lengths of its LATENT."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import node_helpers
import torch
from torch import Tensor

from ...harmony_core.geometry import ClipGeometry, as_fraction, latent_frame_span
from ...harmony_core.media import AudioClip, VideoClip, fit_audio, fit_video
from .autoencoders import audio_latent_rate, encode_frames, encode_waveform, vae_config
from .clips import fitted_picture
from .streams import give, split_latent

Noted = tuple[dict[str, Any], tuple[str, ...]]


def give_first_frame(latent: dict[str, Any], vae: Any, image: Tensor) -> Noted:
    """The LATENT whose first frame is a picture, and what was changed about it."""
    geometry = clip_geometry(latent, vae)
    picture_1HWC, notes = fitted_picture(image, geometry.height, geometry.width)
    return give(latent, video=encode_frames(vae, picture_1HWC), video_given=slice(0, 1)), tuple(notes)


def give_video(latent: dict[str, Any], vae: Any, video: Any, start_s: float, end_s: float) -> Noted:
    """The LATENT with a VIDEO's pictures from `start_s` to `end_s` (0 = its end); no VIDEO keeps the latent's own."""
    geometry = clip_geometry(latent, vae)
    given = _latent_frames(geometry, vae_config(vae).temporal_stride, start_s, _open_end(latent, end_s))
    if video is None:
        return give(latent, video_given=given), ("the latent's own video is kept",)
    components = video.get_components()
    frames = (components.images[..., :3] * 255).round().clamp(0, 255).byte().cpu().numpy()
    frames_FHWC, notes = fit_video(VideoClip(frames, Fraction(components.frame_rate)), geometry)
    latents = encode_frames(vae, torch.from_numpy(frames_FHWC).float() / 255)
    return give(latent, video=latents[:, :, given], video_given=given), notes


def give_audio(
    latent: dict[str, Any], audio_vae: Any, audio: dict[str, Any] | None, start_s: float, end_s: float
) -> Noted:
    """The LATENT with an AUDIO's sound from `start_s` to `end_s` (0 = its end); no AUDIO keeps the latent's own."""
    asked = _asked(latent)
    num_latents = split_latent(latent)[1].shape[2]
    rate = audio_vae.audio_sample_rate
    given = _audio_latents(num_latents, audio_latent_rate(audio_vae), start_s, _open_end(latent, end_s))
    if audio is None:
        return give(latent, audio_given=given), ("the latent's own sound is kept",)
    samples_N, notes = fit_audio(_first_sound(audio), round(Fraction(asked["num_frames"]) / asked["fps"] * rate), rate)
    latents = encode_waveform(audio_vae, torch.from_numpy(samples_N)[None, None], num_latents)
    return give(latent, audio=latents[:, :, given], audio_given=given), notes


def give_reference(
    conditioning: Any, audio_vae: Any, audio: dict[str, Any], seconds: float
) -> tuple[Any, tuple[str, ...]]:
    """CONDITIONING with the latents of the first `seconds` of a sound to sound like.

    Raises:
        ValueError: less than one audio latent.
    """
    rate, per_second = audio_vae.audio_sample_rate, audio_latent_rate(audio_vae)
    count = int(as_fraction(seconds) * per_second)
    if count < 1:
        raise ValueError(
            f"A reference of {seconds:g} s is shorter than one audio latent ({float(1 / per_second):g} s); "
            "ask for at least 0.3."
        )
    samples_N, notes = fit_audio(_first_sound(audio), round(count * rate / per_second), rate)
    latents = encode_waveform(audio_vae, torch.from_numpy(samples_N)[None, None], count)
    return node_helpers.conditioning_set_values(conditioning, {"harmony_reference_audio": latents}), notes


def clip_geometry(latent: dict[str, Any], vae: Any) -> ClipGeometry:
    """The lengths of a LATENT. Raises ValueError if it does not come from HarmonyClip, or for another VAE."""
    asked, config = _asked(latent), vae_config(vae)
    if config is None:
        raise ValueError(
            f"A VAE of {vae.latent_channels} channels belongs to no Harmony model; use the checkpoint's own."
        )
    video, _ = split_latent(latent)
    height, width = (size * config.spatial_stride for size in video.shape[3:])
    return ClipGeometry.from_frames(asked["num_frames"], asked["fps"], height, width, config)


def _asked(latent: dict[str, Any]) -> dict[str, Any]:
    if "harmony_clip" not in latent:
        raise ValueError("The latent does not say how long its clip is; start from HarmonyClip.")
    return latent["harmony_clip"]


def _first_sound(audio: dict[str, Any]) -> AudioClip:
    return AudioClip(audio["waveform"][0].float().cpu().numpy(), int(audio["sample_rate"]))


def _latent_frames(geometry: ClipGeometry, stride: int, start_s: float, end_s: float) -> slice:
    """Latent frames all of whose frames lie in the span."""
    start, end = _span(start_s, end_s, Fraction(geometry.num_frames) / geometry.fps)
    spans = [latent_frame_span(index, geometry.fps, stride) for index in range(geometry.num_latent_frames)]
    inside = [index for index, (first, last) in enumerate(spans) if first >= start and last <= end]
    return _some(inside, start_s, end_s, "video")


def _audio_latents(count: int, per_second: Fraction, start_s: float, end_s: float) -> slice:
    """Audio latents whose centre lies in the span."""
    start, end = _span(start_s, end_s, Fraction(count) / per_second)
    first, last = (max(0, ceil(time * per_second - Fraction(1, 2))) for time in (start, end))
    return _some(list(range(first, min(last, count))), start_s, end_s, "sound")


def _open_end(latent: dict[str, Any], end_s: float) -> float:
    """0 for the end of the clip that was asked for: its last latents reach a little further."""
    asked = _asked(latent)
    return 0.0 if as_fraction(end_s) >= Fraction(asked["num_frames"]) / asked["fps"] else end_s


def _span(start_s: float, end_s: float, length: Fraction) -> tuple[Fraction, Fraction]:
    return as_fraction(start_s), as_fraction(end_s) if end_s else length


def _some(indices: list[int], start_s: float, end_s: float, what: str) -> slice:
    if not indices:
        end = f"{end_s:g} s" if end_s else "the end"
        raise ValueError(f"From {start_s:g} s to {end} there is not one latent of {what}; widen the span.")
    return slice(indices[0], indices[-1] + 1)
