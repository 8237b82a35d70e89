"""Latents of video and sound as clips: pictures, sound, and both as a VIDEO."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from comfy_api.latest import InputImpl, Types
from torch import Tensor
from torch.nn.functional import pad

from ...harmony_core.geometry import as_fraction
from .autoencoders import decode_frames, decode_waveform
from .av_latent import split_latent
from .clips import num_samples
from .layout import check_coders

SILENT_PEAK = 1e-3  # -60 dB


@dataclass(frozen=True)
class Clip:
    """Pictures in 0..1 and ComfyUI's AUDIO."""

    images: Tensor  # [F,H,W,3]
    audio: dict[str, Any]
    fps: Fraction

    def video(self) -> Any:
        """Both as ComfyUI's VIDEO."""
        components = Types.VideoComponents(images=self.images, audio=self.audio, frame_rate=self.fps)
        return InputImpl.VideoFromComponents(components)


def decode_clip(
    latent: dict[str, Any], vae: Any, audio_vae: Any, chunk_seconds: float = 0.0, tile: int = 0
) -> tuple[list[Clip], list[str]]:
    """Every clip of the batch, cut to the frames and samples asked for, and warnings about its sound.

    `chunk_seconds` are decoded at once (0 = all), pictures in tiles of `tile` pixels (0 = whole pictures).

    Raises:
        ValueError: a LATENT that does not come from HarmonyClip, or autoencoders of another model.
    """
    check_coders(latent, vae, audio_vae)
    asked = latent.get("harmony_clip")
    if asked is None:
        raise ValueError(
            "The latent does not say how long its clip is; start from HarmonyClip, or decode latents of core's own "
            "nodes with VAEDecode and VAEDecodeAudio."
        )
    video, audio = split_latent(latent)
    frames_per_latent = Fraction(asked["num_frames"], video.shape[2])
    chunk = ceil(as_fraction(chunk_seconds) * asked["fps"] / frames_per_latent)
    images_BFHWC = decode_frames(vae, video, chunk, tile)[:, : asked["num_frames"]]
    waveform_BCN, rate = decode_waveform(audio_vae, audio, as_fraction(chunk_seconds))
    length = num_samples(asked["num_frames"], asked["fps"], rate)
    waveform_BCN = pad(waveform_BCN, (0, max(0, length - waveform_BCN.shape[-1])))[..., :length]
    clips = [
        Clip(images, {"waveform": waveform[None], "sample_rate": rate}, asked["fps"])
        for images, waveform in zip(images_BFHWC, waveform_BCN, strict=True)
    ]
    return clips, [warning for index, waveform in enumerate(waveform_BCN) for warning in _loudness(waveform, index)]


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
