"""Latents of video and sound as clips: pictures, sound, and both as a VIDEO."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import torch
from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor

from ...harmony_core.geometry import as_fraction, rounded_up
from ...harmony_core.media import AudioClip, VideoClip, fit_length, fit_video, resample_channels, writable_sound
from ...harmony_core.pipelines.final import ORIGINAL
from .autoencoders import audio_latent_rate, decode_frames, decode_waveform
from .av_latent import split_latent
from .clips import asked_of, clip_geometry, first_sound, latent_kind, read_film
from .given_media import AUDIO, VIDEO, HeldMedia, held_media
from .layout import check_coders
from .pixels import to_bytes, to_images

SILENT_PEAK = 1e-3  # -60 dB
FADE_S = Fraction(1, 50)  # at the ends of a part that was given, inside it
FILM_CHANNELS = (1, 2, 6)  # of sound that core's Save Video writes


@dataclass(frozen=True)
class Clip:
    """Pictures in 0..1 and ComfyUI's AUDIO."""

    images: Tensor  # [F,H,W,3]
    audio: Input.Audio
    fps: Fraction

    def video(self) -> Any:
        """Both as ComfyUI's VIDEO."""
        components = Types.VideoComponents(images=self.images, audio=self.audio, frame_rate=self.fps)
        return InputImpl.VideoFromComponents(components)


def decode_clip(
    latent: dict[str, Any],
    vae: Any,
    audio_vae: Any,
    chunk_seconds: float = 0.0,
    tile: int = 0,
    given: str = ORIGINAL,
) -> tuple[list[Clip], list[str]]:
    """Every clip of the batch, cut to what was asked for, and what a person should know about sound and given media.

    `chunk_seconds` are decoded at once (0 = all), pictures in tiles of `tile` pixels (0 = whole pictures). With `given`
    "original" a film or sound that was given from beginning to end comes out as it was, cut to the clip's length; of
    one that was given in part, that part takes the place of what the model has there.

    Raises:
        ValueError: as `asked_of`; autoencoders of another model, or swapped ones.
    """
    asked_of(latent)
    check_coders(latent, vae, audio_vae)
    held = held_media(latent) if given == ORIGINAL else []
    chunk_s = as_fraction(chunk_seconds)
    pictures, fps, notes = _pictures(latent, vae, chunk_s, tile, [each for each in held if each.given.stream == VIDEO])
    sounds = [each for each in held if each.given.stream == AUDIO]
    sounds, said = _sounds(latent, audio_vae, chunk_s, len(pictures[0]) / fps, sounds)
    clips = [
        Clip(images, {"waveform": torch.from_numpy(sound.samples)[None], "sample_rate": sound.sample_rate}, fps)
        for images, sound in zip(pictures, sounds, strict=True)
    ]
    lost = [
        f"the latent no longer holds the given {each.given.name}, so it is shown as it was made"
        for each in held
        if not each.where.any()
    ]
    loudness = [each for index, clip in enumerate(clips) for each in _loudness(clip.audio["waveform"][0], index)]
    return clips, [*loudness, *notes, *said, *lost]


def _pictures(
    latent: dict[str, Any], vae: Any, chunk_s: Fraction, tile: int, films: list[HeldMedia]
) -> tuple[list[Tensor], Fraction, list[str]]:
    """Pictures [F,H,W,3] of every clip, their rate, and notes."""
    asked, video = asked_of(latent), split_latent(latent)[0]
    whole = next((film for film in films if film.everywhere), None)
    if whole is not None:
        images, fps, notes = _own_film(whole.given.media, asked["num_frames"] / asked["fps"])
        return [images] * len(video), fps, notes
    frames_per_latent = Fraction(asked["num_frames"], video.shape[2])
    images_BFHWC = decode_frames(vae, video, ceil(chunk_s * asked["fps"] / frames_per_latent), tile)
    for film in films:
        geometry = clip_geometry(latent, vae)
        shown = read_film(film.given.media, Fraction(geometry.num_frames) / geometry.fps)
        fitted_FHWC = fit_video(VideoClip(to_bytes(shown.images), shown.fps), geometry)[0]
        for row, index in film.where.nonzero().tolist():
            span = slice(*latent_kind(latent, vae).span(index))
            images_BFHWC[row, span] = to_images(fitted_FHWC[span]).to(images_BFHWC)
    return list(images_BFHWC[:, : asked["num_frames"]]), asked["fps"], []


def _own_film(video: Any, seconds: Fraction) -> tuple[Tensor, Fraction, list[str]]:
    """A given film's own pictures at its own rate, cut to `seconds`; a short one holds its last."""
    film = read_film(video, seconds)
    images, fps = film.images, film.fps
    height, width = images.shape[1:3]
    notes = [f"video: the given film as it was, {width}x{height} at {float(fps):.6g} fps"]
    if height % 2 or width % 2:
        notes.append(f"video: {width}x{height} -> {width - width % 2}x{height - height % 2}, H.264 takes even sizes")
    shown = torch.arange(max(1, rounded_up(seconds * fps))).clamp(max=len(images) - 1)
    return images[shown, : height - height % 2, : width - width % 2], fps, notes


def _sounds(
    latent: dict[str, Any], audio_vae: Any, chunk_s: Fraction, seconds: Fraction, given: list[HeldMedia]
) -> tuple[list[AudioClip], list[str]]:
    """The sound of every clip, `seconds` long, and notes."""
    audio, notes = split_latent(latent)[1], []
    whole = next((sound for sound in given if sound.everywhere), None)
    if whole is not None:
        sound, changes = writable_sound(first_sound(whole.given.media), FILM_CHANNELS)
        heard = {1: "mono", 2: "stereo"}.get(len(sound.samples), f"{len(sound.samples)} channels")
        notes = [f"audio: the given sound as it was, {sound.sample_rate} Hz {heard}", *changes]
        sounds = [sound] * len(audio)
    else:
        waveform_BCN, rate = decode_waveform(audio_vae, audio, chunk_s)
        sounds = [AudioClip(waveform_CN.cpu().numpy(), rate) for waveform_CN in waveform_BCN]
    for part in given if whole is None else ():
        sound, changes = writable_sound(first_sound(part.given.media), FILM_CHANNELS[:2])
        notes += changes
        sounds = [
            laid_over(made, sound, where, audio_latent_rate(audio_vae)) if where.any() else made
            for made, where in zip(sounds, part.where, strict=True)
        ]
    return [
        AudioClip(fit_length(sound.samples, round(seconds * sound.sample_rate)), sound.sample_rate) for sound in sounds
    ], notes


def laid_over(made: AudioClip, given: AudioClip, where_T: Tensor, per_second: Fraction) -> AudioClip:
    """A given sound in the place of what was made, at the higher of both rates.

    Args:
        made, given: mono or stereo.
        where_T: which audio latents were given, `per_second` of them.
    """
    rate = max(made.sample_rate, given.sample_rate)
    made_CN, given_CN = (resample_channels(clip.samples, clip.sample_rate, rate) for clip in (made, given))
    given_CN = fit_length(given_CN, made_CN.shape[1])
    share_N = _shares(where_T.numpy(), per_second, rate, made_CN.shape[1])
    return AudioClip(made_CN * (1 - share_N) + given_CN * share_N, rate)


def _shares(where_T: np.ndarray, per_second: Fraction, rate: int, num_samples: int) -> np.ndarray:
    """How much of each sample is given: all of it, but for short fades where what was made begins or ends."""
    share_N = np.zeros(num_samples, np.float32)
    turns = np.flatnonzero(np.diff(np.concatenate(([0], where_T.astype(int), [0])))).reshape(-1, 2)
    for first, last in turns.tolist():
        start, end = (min(round(index / per_second * rate), num_samples) for index in (first, last))
        end = num_samples if last == len(where_T) else end
        share_N[start:end] = 1
        fade = min(round(FADE_S * rate), (end - start) // 2)
        ramp_N = (np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1)
        if first > 0:
            share_N[start : start + fade] = ramp_N
        if last < len(where_T):
            share_N[end - fade : end] = ramp_N[::-1]
    return share_N


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
