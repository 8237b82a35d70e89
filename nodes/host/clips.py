"""What several nodes ask of a clip: its lengths, and given media at these lengths."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from comfy_api.latest import InputImpl
from torch import Tensor

from ...harmony_core.geometry import ClipGeometry, as_fps, as_fraction
from ...harmony_core.media import AudioClip, clean_samples, fit_image
from .autoencoders import vae_config
from .av_latent import split_latent, time_axes
from .av_models import LatentKind, causal_frames, native_latents
from .pixels import ON_WHITE, is_transparent, opaque, to_bytes, to_images

NO_SOUND = (
    "There is no sound in what is connected to the audio input: a film without a sound track hands on none. "
    "Connect one that has sound"
)


def num_samples(num_frames: int, fps: Fraction, rate: int) -> int:
    return round(Fraction(num_frames) / fps * rate)


def fitted_picture(image: Tensor, height: int, width: int) -> tuple[Tensor, list[str]]:
    """The first picture of an IMAGE in the clip's size, [1,H,W,3] in 0..1. Raises ValueError for one without any."""
    if not len(image):
        raise ValueError("There is no picture in what is connected for the first frame; connect one.")
    fitted, notes = fit_image(to_bytes(image[0]), height, width, "first frame")
    extra = [f"first frame: the first of {len(image)} pictures"] if len(image) > 1 else []
    extra += [f"first frame: {ON_WHITE}"] if is_transparent(image[0]) else []
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


def check_audio_vae(audio: Tensor, audio_vae: Any) -> None:
    """Raises ValueError for an audio autoencoder of another model than the sound's latents."""
    if audio_vae.latent_channels != audio.shape[1]:
        raise ValueError(
            f"The latent's sound has {audio.shape[1]} channels, but the audio VAE makes {audio_vae.latent_channels}; "
            "connect the audio VAE of the model that this latent is for."
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
        ValueError: a LATENT that does not tell its length or rate, as `asked_of`, or another VAE.
    """
    kind, config = latent_kind(latent, vae), vae_config(vae)
    video, audio = split_latent(latent)
    height, width = pixel_size(video, vae)
    if config is not None and kind.title == "Harmony":
        asked = asked_of(latent)
        return ClipGeometry.from_frames(asked["num_frames"], asked["fps"], height, width, config)
    num_frames, known = kind.num_frames(video.shape[2]), asked_of(latent) if "harmony_clip" in latent else {}
    rate = known.get("fps") or kind.fps or as_fps(fps)
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


def asked_of(latent: dict[str, Any], guides: bool = False) -> dict[str, Any]:
    """What Harmony Clip laid out.

    Args:
        guides: LTX-2's may follow the video, which then is longer than it was laid out.

    Raises:
        ValueError: a LATENT of another node, or one whose streams no longer have their lengths.
    """
    if "harmony_clip" not in latent:
        raise ValueError(
            "The latent does not say how long its clip is; start from HarmonyClip, or decode latents of core's own "
            "nodes with VAEDecode and VAEDecodeAudio."
        )
    asked, streams = latent["harmony_clip"], split_latent(latent)
    held = tuple(stream.shape[axis] for stream, axis in zip(streams, time_axes(*streams), strict=True))
    laid_out, compared = asked["latents"], slice(1 if guides else 0, None)
    if held[compared] != laid_out[compared]:
        raise ValueError(
            f"The latent holds {_lengths(held, asked)}, but Harmony Clip laid out {_lengths(laid_out, asked)}: it was "
            "trimmed, joined or extended, and picture and sound would no longer meet. Set the length in Harmony Clip "
            "and cut what Harmony Decode gives."
        )
    return asked


def _lengths(latents: tuple[int, ...], asked: dict[str, Any]) -> str:
    frames = causal_frames(asked["temporal_stride"])(latents[0])
    seconds = float(frames / asked["fps"]), float(latents[1] / asked["audio_latent_rate"])
    return f"{seconds[0]:.4g} s of video and {seconds[1]:.4g} s of sound ({latents[0]} and {latents[1]} latents)"


def seconds_of(latent: dict[str, Any]) -> Fraction:
    """How long the clip is that was asked for; of a native LATENT, how long its sound is. Raises as `asked_of`."""
    video, audio = split_latent(latent)
    native = native_latents(video, audio)
    if native and "harmony_clip" not in latent:
        return audio.shape[native.audio_time] / native.audio_rate
    asked = asked_of(latent, guides=native is not None)
    return Fraction(asked["num_frames"]) / asked["fps"]


def first_sound(audio: dict[str, Any] | None) -> AudioClip:
    """The first sound of an AUDIO. Raises ValueError for none: core's nodes hand on None of a film without sound."""
    if audio is None or not audio["waveform"].numel():
        raise ValueError(f"{NO_SOUND}.")
    waveform_BCN = audio["waveform"]
    notes = (f"audio: the first of {len(waveform_BCN)} sounds",) if len(waveform_BCN) > 1 else ()
    samples_CN, wrong = clean_samples(waveform_BCN[0].float().cpu().numpy(), "audio")
    return AudioClip(samples_CN, int(audio["sample_rate"]), notes=(*notes, *wrong))


@dataclass(frozen=True)
class Film:
    """Pictures [F,H,W,3] of a VIDEO in 0..1, the first ones at least; how long all of it lasts; and notes."""

    images: Tensor
    fps: Fraction
    duration_s: Fraction
    notes: tuple[str, ...]


def read_film(video: Any, seconds: Fraction) -> Film:
    """The first `seconds` of a VIDEO, or more. Raises ValueError for one without a picture."""
    components, duration_s = _first_part(video, seconds)
    images, alpha = components.images, components.alpha
    if not len(images):
        raise ValueError("There is not one picture in what is connected to the video input; connect another film.")
    if alpha is not None:
        images = torch.cat((images[..., :3], alpha.reshape(*images.shape[:3], 1).to(images)), -1)
    notes = (f"video: {ON_WHITE}",) if is_transparent(images) else ()
    return Film(opaque(images), Fraction(components.frame_rate), duration_s, notes)


def _first_part(video: Any, seconds: Fraction) -> tuple[Any, Fraction]:
    """A VIDEO's components and its length. Core reads a file into float32 as a whole, so a long one is cut first."""
    wanted = float(seconds) + 1
    if isinstance(video, InputImpl.VideoFromFile) and (duration := video.get_duration()) > wanted:
        part = video.as_trimmed(0, wanted, strict_duration=False)
        assert part is not None
        first = part.get_components()
        # of a file whose times do not begin at 0 that is less
        if len(first.images) > seconds * Fraction(first.frame_rate):
            return first, Fraction(duration)
    whole = video.get_components()
    return whole, len(whole.images) / Fraction(whole.frame_rate)
