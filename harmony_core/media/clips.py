"""Video and sound in memory.

Shape suffixes: F frames, H height, W width, C audio channels, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..geometry import MAX_SIDE

MAX_SECONDS = 3600  # of a file, where no length is asked for
OVERSHOOT = 1.25  # of full scale: what lossy coding may add to a sound that reaches it
MAX_BYTES = 4 * 2**30  # of frames, or of sound, held at once


class MediaError(ValueError):
    """A media file that cannot be read or written; the message names the path and the fix."""


@dataclass(frozen=True)
class VideoClip:
    """Pictures at a constant rate.

    `frames` is uint8 RGB [F,H,W,3]; `size` is width and height before any shrinking. `notes` says in words what was
    chosen and converted in reading. `source` is the file and `picks` which of its frames each of `frames` is, so that
    `own_frames` finds them again in their own size. `late_s`, at most half a frame, is how much later than
    their places the frames were taken: a track need not begin on the grid of its rate. `whole_s` is how long the film
    lasts of which these are only the first.
    """

    frames: np.ndarray
    fps: Fraction
    name: str = "video"
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    source: Path | None = None
    picks: tuple[int, ...] = ()
    late_s: Fraction = Fraction(0)
    whole_s: Fraction | None = None

    @property
    def duration_s(self) -> Fraction:
        return len(self.frames) / self.fps


@dataclass(frozen=True)
class AudioClip:
    """Sound. `samples` is float32 [C,N] in -1..1; `channels` names them as FFmpeg does (FL, FR, FC, ...), if known."""

    samples: np.ndarray
    sample_rate: int
    name: str = "audio"
    notes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    @property
    def duration_s(self) -> Fraction:
        return Fraction(self.samples.shape[1], self.sample_rate)


def clean_samples(samples_CN: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Sound [C,N] with silence where it has no numbers, lowered where it is far too loud, and what was changed."""
    notes = []
    wrong = ~np.isfinite(samples_CN)
    if wrong.any():
        count = int(wrong.any(axis=0).sum())
        plural = "s that are no numbers" if count > 1 else " that is no number"
        notes.append(f"{name}: {count} sample{plural} replaced by silence")
        samples_CN = np.where(wrong, np.float32(0), samples_CN)
    peak = float(np.abs(samples_CN).max(initial=0.0))
    if peak > OVERSHOOT:
        notes.append(f"{name}: its peak is {peak:.4g} times full scale, lowered to 1")
        samples_CN = samples_CN / np.float32(peak)
    return samples_CN, tuple(notes)


def check_size(width: int, height: int) -> None:
    """Raises MediaError for a picture that H.264 does not take."""
    if width % 2 or height % 2:
        raise MediaError(f"H.264 needs even sizes, not {width}x{height}; crop by one pixel.")
    if max(width, height) > MAX_SIDE:
        raise MediaError(f"A video of {width}x{height} is too large, H.264 goes to {MAX_SIDE}; take a smaller scale.")


def check_bytes(path: Path, needed: int) -> None:
    """Raises MediaError for more than is held at once."""
    if needed > MAX_BYTES:
        raise MediaError(
            f"{path} takes {needed / 2**30:.1f} GiB when read, more than {MAX_BYTES / 2**30:g}; ask for fewer seconds."
        )
