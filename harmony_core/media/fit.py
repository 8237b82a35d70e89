"""Clips to the lengths, rates and sizes of a model's clip.

Shape suffixes: F frames, H height, W width, C audio channels, N samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice, repeat
from math import floor

import av
import numpy as np
from PIL import Image, ImageOps

from ..geometry import ClipGeometry, as_fraction
from .clips import AudioClip, MediaError, VideoClip
from .mix import loudness_notes, to_mono
from .times import nearest_frame


def fit_video(clip: VideoClip, geometry: ClipGeometry) -> tuple[np.ndarray, tuple[str, ...]]:
    """`geometry.num_frames` frames of the clip at the geometry's rate and size, and what was changed, in words.

    Frames are the nearest in time; sizes are covered and cropped at the centre; a short clip holds its last frame.

    Returns:
        uint8 [F,H,W,3], notes.
    """
    count, notes = len(clip.frames), list(clip.notes)
    available = max(1, floor((clip.whole_s or clip.duration_s) * geometry.fps + Fraction(1, 2)))
    if clip.fps != geometry.fps:
        notes.append(f"{clip.name}: {float(clip.fps):g} fps -> {float(geometry.fps):g} fps")
    notes += _length_note(clip.name, available / geometry.fps, geometry.duration_s, "its last frame")
    shown = [min(nearest_frame(k, clip.fps, geometry.fps), count - 1) for k in range(geometry.num_frames)]
    fitted = [fit_image(clip.frames[k], geometry.height, geometry.width, clip.name, clip.size) for k in shown]
    return np.stack([frame for frame, _ in fitted]), (*notes, *fitted[0][1])


def fit_length(samples_CN: np.ndarray, num_samples: int) -> np.ndarray:
    """[C,N] cut, or followed by silence, to `num_samples`."""
    return np.pad(samples_CN[:, :num_samples], ((0, 0), (0, max(0, num_samples - samples_CN.shape[1]))))


def on_frames(clip: VideoClip, samples_CN: np.ndarray, sample_rate: int) -> np.ndarray:
    """Sound read with a clip, [C,N], moved by the less than half a frame by which its pictures were."""
    late = round(clip.late_s * sample_rate)
    return samples_CN[:, late:] if late >= 0 else np.pad(samples_CN, ((0, 0), (-late, 0)))


def fit_count(frames: Iterable[np.ndarray], num_frames: int) -> Iterator[np.ndarray]:
    """The first `num_frames` frames; a short clip holds its last."""
    shown, frame = 0, None
    for frame in islice(frames, num_frames):
        shown += 1
        yield frame
    if frame is not None:
        yield from repeat(frame, num_frames - shown)


def fit_image(
    image: np.ndarray, height: int, width: int, name: str = "image", size: tuple[int, int] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The picture, uint8 [H,W,3], scaled to cover height x width and cropped at the centre, and notes.

    `size` is the width and height that the notes state, of a picture that was shrunk before.
    """
    source_height, source_width = image.shape[:2]
    stated_width, stated_height = size or (source_width, source_height)
    if (source_height, source_width) == (stated_height, stated_width) == (height, width):
        return image, ()
    scale = max(height / source_height, width / source_width)
    crop_height, crop_width = height / scale, width / scale
    top, left = (source_height - crop_height) / 2, (source_width - crop_width) / 2
    box = (left, top, left + crop_width, top + crop_height)
    fitted = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box=box)
    note = f"{name}: {stated_width}x{stated_height} -> {width}x{height}"
    cropped = source_width - crop_width >= 0.5 or source_height - crop_height >= 0.5
    return np.array(fitted), (note + (", cropped at the centre" if cropped else ""),)


def fit_reference_image(image: np.ndarray, height: int, width: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The whole picture, uint8 [H,W,3], as large as it fits, centred on white (as DreamID-Omni does), and notes."""
    source_height, source_width = image.shape[:2]
    if (source_height, source_width) == (height, width):
        return image, ()
    fitted = ImageOps.pad(Image.fromarray(image), (width, height), Image.Resampling.LANCZOS, color="white")
    return np.array(fitted), (f"reference image: {source_width}x{source_height} -> {width}x{height}, whole",)


def fit_audio(clip: AudioClip, num_samples: int, sample_rate: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """`num_samples` mono samples of the clip at `sample_rate`, and what was changed, in words.

    Channels are mixed as `to_mono` does; a short clip is followed by silence.

    Returns:
        float32 [N], notes.
    """
    channels, notes = len(clip.samples), list(clip.notes)
    mono_N, mixed = to_mono(clip)
    fitted_N = resample(mono_N, clip.sample_rate, sample_rate)
    if (clip.sample_rate, channels) != (sample_rate, 1):
        kind = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
        notes.append(f"{clip.name}: {clip.sample_rate} Hz {kind} -> {sample_rate} Hz mono")
    notes += mixed
    notes += _length_note(clip.name, len(fitted_N) / sample_rate, num_samples / sample_rate, "silence")
    fitted_N = np.pad(fitted_N[:num_samples], (0, max(0, num_samples - len(fitted_N))))
    return fitted_N, (*notes, *loudness_notes(clip.name, fitted_N))


def fit_channels(clip: AudioClip, num_samples: int, sample_rate: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """As `fit_audio`, but every channel by itself: float32 [C,N], and notes."""
    notes = list(clip.notes)
    fitted_CN = resample_channels(clip.samples, clip.sample_rate, sample_rate)
    if clip.sample_rate != sample_rate:
        notes.append(f"{clip.name}: {clip.sample_rate} Hz -> {sample_rate} Hz")
    notes += _length_note(clip.name, fitted_CN.shape[1] / sample_rate, num_samples / sample_rate, "silence")
    fitted_CN = fit_length(fitted_CN, num_samples)
    return fitted_CN, (*notes, *loudness_notes(clip.name, fitted_CN))


def fit_reference_audio(
    clip: AudioClip, seconds: float, unit: int, sample_rate: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The first `seconds` of the clip, or what there is of them, in whole latents, and what was changed, in words.

    Args:
        unit: samples of one audio latent at `sample_rate`.

    Returns:
        float32 [N], N a multiple of `unit`; notes.

    Raises:
        MediaError: less than one latent.
    """
    asked, there = int(as_fraction(seconds) * sample_rate) // unit, int(clip.duration_s * sample_rate) // unit
    count = min(asked, there)
    if count < 1:
        short = f"reference_seconds is {seconds:g}," if asked < 1 else f"{clip.name} is"
        raise MediaError(f"{short} shorter than one audio latent ({unit / sample_rate:g} s); take at least 0.3 s.")
    samples_N, notes = fit_audio(clip, count * unit, sample_rate)
    if there < asked:
        notes = (*notes, f"{clip.name}: {count * unit / sample_rate:g} s are there, not {seconds:g} s")
    return samples_N, notes


def resample_channels(samples_CN: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """`resample`, channel by channel: [C,N]."""
    return np.stack([resample(channel_N, source_rate, target_rate) for channel_N in samples_CN])


def resample(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Band-limited resampling of one channel between any two rates: [N] -> float32 [round(N * target / source)].

    FFmpeg's, because torchaudio's kernel takes gigabytes when the rates share no divisor.
    """
    if source_rate == target_rate:
        return samples.astype(np.float32)
    # A second of silence either side, a whole number of samples at any rate, takes in the filter's edges.
    padded_CN = np.pad(samples, source_rate)[None].astype(np.float32)
    frame = av.AudioFrame.from_ndarray(padded_CN, "fltp", "mono")
    frame.sample_rate = source_rate
    converter = av.AudioResampler(format="fltp", layout="mono", rate=target_rate)
    chunks = [out.to_ndarray()[0] for part in (frame, None) for out in converter.resample(part)]
    length = round(len(samples) * target_rate / source_rate)
    return np.concatenate(chunks)[target_rate : target_rate + length]


def _length_note(name: str, have_s: float | Fraction, want_s: float | Fraction, filler: str) -> list[str]:
    have_s, want_s = float(have_s), float(want_s)
    if abs(have_s - want_s) < 0.005:
        return []
    how = "cut to" if have_s > want_s else f"continued with {filler} to"
    return [f"{name}: {have_s:.2f} s {how} {want_s:.2f} s"]
