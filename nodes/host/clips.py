"""What several nodes ask of a clip: its lengths, and given media at these lengths."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor

from ...harmony_core.geometry import ClipGeometry, as_fraction
from ...harmony_core.media import AudioClip, fit_image
from .autoencoders import vae_config
from .av_latent import split_latent
from .av_models import LatentKind, causal_frames, native_latents
from .pixels import to_bytes, to_images


def num_samples(num_frames: int, fps: Fraction, rate: int) -> int:
    return round(Fraction(num_frames) / fps * rate)


def fitted_picture(image: Tensor, height: int, width: int) -> tuple[Tensor, list[str]]:
    """The first picture of an IMAGE in the clip's size, [1,H,W,3] in 0..1."""
    fitted, notes = fit_image(to_bytes(image[0]), height, width, "first frame")
    extra = [f"first frame: the first of {len(image)} pictures"] if len(image) > 1 else []
    return to_images(fitted)[None], [*extra, *notes]


def latent_kind(latent: dict[str, Any], vae: Any) -> LatentKind:
    """Whose latents these are. Raises ValueError for an autoencoder of another model."""
    video, audio = split_latent(latent)
    native, config = native_latents(video, audio), vae_config(vae)
    if vae.latent_channels == video.shape[1]:
        if native:
            return native
        if config:
            rate, frames = as_fraction(config.audio_latent_rate), causal_frames(config.temporal_stride)
            return LatentKind("Harmony", (video.shape[1], audio.shape[1]), 2, rate, frames)
    raise ValueError(
        f"The latent's video has {video.shape[1]} channels, but the VAE makes {vae.latent_channels}; connect the "
        "video VAE of the model that this latent is for."
    )


def pixel_size(video: Tensor, vae: Any) -> tuple[int, int]:
    """Height and width of the pictures that video latents [B,C,T,h,w] become."""
    height, width = (size * vae.spacial_compression_decode() for size in video.shape[3:])
    return height, width


def clip_geometry(latent: dict[str, Any], vae: Any, fps: float = 0.0) -> ClipGeometry:
    """The lengths of a LATENT.

    Args:
        fps: of a latent that was not laid out by HarmonyClip and does not tell; 0 = it does.

    Raises:
        ValueError: a LATENT that does not tell its length or rate, or another VAE.
    """
    kind, config = latent_kind(latent, vae), vae_config(vae)
    video, audio = split_latent(latent)
    height, width = pixel_size(video, vae)
    if config is not None and kind.title == "Harmony":
        asked = asked_of(latent)
        return ClipGeometry.from_frames(asked["num_frames"], asked["fps"], height, width, config)
    num_frames, known = kind.num_frames(video.shape[2]), latent.get("harmony_clip", {})
    rate = known.get("fps") or kind.fps or as_fraction(fps)
    if not rate:
        raise ValueError(
            f"Latents of {kind.title} do not say their frame rate; set fps to that of the graph's other nodes."
        )
    return ClipGeometry(
        num_frames_asked=known.get("num_frames", num_frames),
        fps=rate,
        height=height,
        width=width,
        num_frames=num_frames,
        num_latent_frames=video.shape[2],
        latent_height=video.shape[3],
        latent_width=video.shape[4],
        num_audio_latents=audio.shape[kind.audio_time],
        num_samples=0,
        sample_rate=0,
    )


def asked_of(latent: dict[str, Any]) -> dict[str, Any]:
    if "harmony_clip" not in latent:
        raise ValueError("The latent does not say how long its clip is; start from HarmonyClip.")
    return latent["harmony_clip"]


def seconds_of(latent: dict[str, Any]) -> Fraction:
    """How long the clip is that was asked for; of a native LATENT, how long its sound is."""
    video, audio = split_latent(latent)
    native = native_latents(video, audio)
    if native and "harmony_clip" not in latent:
        return audio.shape[native.audio_time] / native.audio_rate
    asked = asked_of(latent)
    return Fraction(asked["num_frames"]) / asked["fps"]


def first_sound(audio: dict[str, Any]) -> AudioClip:
    return AudioClip(audio["waveform"][0].float().cpu().numpy(), int(audio["sample_rate"]))
