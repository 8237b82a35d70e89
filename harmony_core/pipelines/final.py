"""What is written of a clip: a given film or sound as it was, and beside it what the model made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..geometry import MAX_SIDE, rounded_up
from ..media import (
    AudioClip,
    MediaError,
    VideoClip,
    check_size,
    fit_count,
    fit_length,
    own_frames,
    writable_sound,
)
from ..request import GenerateRequest, Generation

ORIGINAL, MODEL = "original", "model"
GIVEN = (ORIGINAL, MODEL)
BIT_RATE, GIVEN_BIT_RATE = 160_000, 256_000  # of what the model made, and of a given sound for each channel


@dataclass(frozen=True)
class FinalClip:
    """Pictures and sound of equal length.

    `frames` uint8 [F,H,W,3] at `fps` are for looking at and measuring; `written` yields them as they are written, where
    a given film has its own size. `samples` is float32 [C,N], or None without sound; `channels` names them if known.
    """

    frames: np.ndarray
    fps: Fraction
    written: Callable[[], Iterator[np.ndarray]]
    size: tuple[int, int]  # width and height of what is written
    samples: np.ndarray | None
    sample_rate: int
    channels: tuple[str, ...] = ()
    bit_rate: int = BIT_RATE
    given_film: bool = False
    notes: tuple[str, ...] = ()


def check_given(request: GenerateRequest, given: str, scale: int = 1) -> None:
    """Before any work: a given film can be written as it is, `scale` times as large.

    Raises:
        ValueError: another word than those of `GIVEN`; MediaError for a film that is too large.
    """
    if given not in GIVEN:
        raise ValueError(f"--given is {given!r}, but must be one of {', '.join(GIVEN)}.")
    if given == ORIGINAL and request.video is not None:
        width, height = _even(request.video)
        if max(width, height) > MAX_SIDE or min(width, height) < 2:
            raise MediaError(f"{request.video.name} is {width}x{height}, which H.264 does not take; use --given model.")
        check_size(width * scale, height * scale)


def final_clip(clip: Generation, request: GenerateRequest, given: str) -> FinalClip:
    """The clip to write.

    With `given` "original" a given film keeps its rate, size and length, cut to what was asked and held where that is
    longer; a given sound its rate and channels. "model" is what the model made of them.
    """
    if given == ORIGINAL and request.video is not None:
        return _beside_film(clip, request.video, request.seconds)
    whole = FinalClip(
        frames=clip.frames,
        fps=clip.fps,
        written=lambda: iter(clip.frames),
        size=(clip.frames.shape[2], clip.frames.shape[1]),
        samples=clip.samples,
        sample_rate=clip.sample_rate,
    )
    if given == ORIGINAL and request.audio is not None:
        return _with_sound(whole, request.audio)
    return whole


def _beside_film(clip: Generation, film: VideoClip, seconds: float | None) -> FinalClip:
    count, notes = len(film.frames), []
    if seconds is not None:
        count = max(1, rounded_up(Fraction(str(seconds)) * film.fps))
    width, height = _even(film)
    if (width, height) != _size(film):
        notes.append(f"{film.name}: {'x'.join(map(str, _size(film)))} -> {width}x{height}, H.264 takes even sizes")
    samples = clip.samples
    if samples is not None:
        samples = fit_length(samples, round(count / film.fps * clip.sample_rate))
    return FinalClip(
        frames=np.stack(list(fit_count(film.frames, count))) if count != len(film.frames) else film.frames,
        fps=film.fps,
        written=lambda: (frame[:height, :width] for frame in fit_count(own_frames(film), count)),
        size=(width, height),
        samples=samples,
        sample_rate=clip.sample_rate,
        given_film=True,
        notes=tuple(notes),
    )


def _with_sound(whole: FinalClip, sound: AudioClip) -> FinalClip:
    sound, notes = writable_sound(sound)
    samples_CN = fit_length(sound.samples, round(len(whole.frames) / whole.fps * sound.sample_rate))
    return FinalClip(
        frames=whole.frames,
        fps=whole.fps,
        written=whole.written,
        size=whole.size,
        samples=samples_CN,
        sample_rate=sound.sample_rate,
        channels=sound.channels,
        bit_rate=GIVEN_BIT_RATE * len(samples_CN),
        notes=notes,
    )


def _size(film: VideoClip) -> tuple[int, int]:
    return film.size or (film.frames.shape[2], film.frames.shape[1])


def _even(film: VideoClip) -> tuple[int, int]:
    width, height = _size(film)
    return width - width % 2, height - height % 2
