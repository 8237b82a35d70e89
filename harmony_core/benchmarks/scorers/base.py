"""The interface of a scorer.

A scorer is opened once: what it needs and is not there is a `ScorerMissingError`. It is then called with every clip,
and returns a number for each of its measures: what cannot be measured is a `NotMeasuredError`. Neither is ever a zero.

Shape suffixes: F frames, H height, W width, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from ...media import resample

SPEECH_RATE = 16000  # samples a second that every scorer of speech takes


class ScorerMissingError(Exception):
    """A scorer cannot run here; the message says what it needs."""


class NotMeasuredError(Exception):
    """A scorer has no number for a clip; the message says why."""


@dataclass(frozen=True)
class Measure:
    """A column of the table: its name, unit, which way is better (`higher`, `lower` or neither) and what it means."""

    name: str
    unit: str
    better: str
    meaning: str


@dataclass(frozen=True)
class FilmClip:
    """A clip as scorers see it: `frames` uint8 [F, H, W, 3], at most some hundred pixels a side; `samples` float32 [N]
    of one channel, None without sound; the texts that it was made from, empty where none are known."""

    path: Path
    frames: np.ndarray
    fps: Fraction
    samples: np.ndarray | None
    sample_rate: int
    prompt: str = ""
    transcript: str = ""

    def sound(self) -> np.ndarray:
        """The samples. Raises NotMeasuredError without any."""
        if self.samples is None:
            raise NotMeasuredError("the clip has no sound")
        return self.samples

    def speech(self) -> np.ndarray:
        """float32 [N] at `SPEECH_RATE`, within -1..1. Raises NotMeasuredError without sound."""
        samples_N = self.sound()
        return resample(samples_N[None], self.sample_rate, SPEECH_RATE)[0].clip(-1, 1)

    def said(self) -> str:
        """The transcript. Raises NotMeasuredError without one."""
        if not self.transcript:
            raise NotMeasuredError("no transcript is known")
        return self.transcript


class Scorer(Protocol):
    """`title` is what people know it by."""

    title: str
    measures: tuple[Measure, ...]

    def __call__(self, clip: FilmClip) -> dict[str, float]:
        """A number for every measure. Raises NotMeasuredError."""
        ...
