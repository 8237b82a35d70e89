"""What several nodes ask of a clip: its lengths, and given media at these lengths."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor

from ...harmony_core.geometry import ClipGeometry
from ...harmony_core.media import AudioClip, fit_image
from .autoencoders import vae_config
from .av_latent import split_latent
from .pixels import to_bytes, to_images


def num_samples(num_frames: int, fps: Fraction, rate: int) -> int:
    return round(Fraction(num_frames) / fps * rate)


def fitted_picture(image: Tensor, height: int, width: int) -> tuple[Tensor, list[str]]:
    """The first picture of an IMAGE in the clip's size, [1,H,W,3] in 0..1."""
    fitted, notes = fit_image(to_bytes(image[0]), height, width, "first frame")
    extra = [f"first frame: the first of {len(image)} pictures"] if len(image) > 1 else []
    return to_images(fitted)[None], [*extra, *notes]


def clip_geometry(latent: dict[str, Any], vae: Any) -> ClipGeometry:
    """The lengths of a LATENT. Raises ValueError if it does not come from HarmonyClip, or for another VAE."""
    asked, config = asked_of(latent), vae_config(vae)
    if config is None:
        raise ValueError(
            f"A VAE of {vae.latent_channels} channels belongs to no Harmony model; use the checkpoint's own."
        )
    video, _ = split_latent(latent)
    height, width = (size * config.spatial_stride for size in video.shape[3:])
    return ClipGeometry.from_frames(asked["num_frames"], asked["fps"], height, width, config)


def asked_of(latent: dict[str, Any]) -> dict[str, Any]:
    if "harmony_clip" not in latent:
        raise ValueError("The latent does not say how long its clip is; start from HarmonyClip.")
    return latent["harmony_clip"]


def first_sound(audio: dict[str, Any]) -> AudioClip:
    return AudioClip(audio["waveform"][0].float().cpu().numpy(), int(audio["sample_rate"]))
