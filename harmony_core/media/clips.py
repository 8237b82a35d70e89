"""Video and sound in memory.

Shape suffixes: F frames, H height, W width, C audio channels, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

MAX_SIDE = 8192  # pixels; players take no larger H.264


class MediaError(ValueError):
    """A media file that cannot be read or written; the message names the path and the fix."""


@dataclass(frozen=True)
class VideoClip:
    """Pictures at a constant rate. `frames` is uint8 RGB [F,H,W,3]; `size` is width and height before any shrinking."""

    frames: np.ndarray
    fps: Fraction
    name: str = "video"
    size: tuple[int, int] | None = None

    @property
    def duration_s(self) -> float:
        return float(len(self.frames) / self.fps)


@dataclass(frozen=True)
class AudioClip:
    """Sound. `samples` is float32 [C,N] in -1..1."""

    samples: np.ndarray
    sample_rate: int
    name: str = "audio"

    @property
    def duration_s(self) -> float:
        return self.samples.shape[1] / self.sample_rate
