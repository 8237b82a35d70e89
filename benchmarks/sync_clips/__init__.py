"""Clips whose lag is known, drawn from a seed: things that sound, what happens around them, noise. Numpy only.

A clip is a subject that is seen and heard, and a distraction that is only seen. Both are functions of time, so that
any frame rate and any lag are exact. Shape suffixes: F frames, H height, W width, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from harmony_core.toyworld import FPS as TOY_FPS
from harmony_core.toyworld import HELD_OUT_SEED, render, sample_scene

from .distractions import DISTRACTIONS
from .subjects import HEIGHT, RATE, SUBJECTS, WIDTH, X, Y, strike

RATES = ("12.5", "15", "24000/1001", "24", "25", "30000/1001", "30", "50", "60")
TOYS = ("toy ball", "toy face", "toy complex")
UNRELATED = ("other", "noise", "music")


@dataclass(frozen=True)
class KnownClip:
    """`frames` uint8 [F,H,W,3], `samples` float32 [1,N]; `lag_ms` None where they have nothing in common."""

    subject: str
    distraction: str
    lag_ms: float | None
    frames: np.ndarray
    fps: Fraction
    samples: np.ndarray
    sample_rate: int = RATE


def known_clip(
    seed: int,
    subject: str | None = None,
    distraction: str | None = None,
    lag_ms: float | None = None,
    fps: str | None = None,
    seconds: float | None = None,
    unrelated: str = "",
) -> KnownClip:
    """The clip of a seed; what is None is drawn from it too.

    `unrelated`, one of UNRELATED, replaces the sound: by that of another clip, by noise, or by beats and tones.
    """
    rng = np.random.default_rng([seed, 7])
    subject = subject if subject is not None else str(rng.choice((*SUBJECTS, *TOYS)))
    distraction = distraction if distraction is not None else str(rng.choice(list(DISTRACTIONS)))
    drawn_lag = 0.0 if rng.random() < 0.2 else float(rng.uniform(-400, 400))
    lag_s = (drawn_lag if lag_ms is None else lag_ms) / 1000
    rate = Fraction(fps if fps is not None else str(rng.choice(RATES)))
    drawn_seconds = float(rng.choice((2.4, 4, 6, 10), p=(0.2, 0.35, 0.3, 0.15)))
    seconds = drawn_seconds if seconds is None else seconds
    if subject.startswith("toy"):
        frames_FHW, samples, rate = _toy(rng, subject.split()[1], lag_s)
        seconds, distraction = len(samples) / RATE, ""
    else:
        frames_FHW, samples = _drawn(rng, subject, distraction, lag_s, rate, seconds)
    if unrelated == "other":
        other = known_clip(seed + 1_000_003, subject if rng.random() < 0.5 else None, "", seconds=seconds)
        samples = np.resize(other.samples[0], len(samples))
    elif unrelated:
        samples = {"noise": _noise_alone, "music": _music}[unrelated](rng, len(samples))
    frames_FHW = frames_FHW + rng.choice((0, 1, 2, 4)) / 255 * rng.standard_normal(frames_FHW.shape)
    loud = max(np.sqrt((samples**2).mean()), 1e-9)
    samples = samples + loud * 10 ** (-rng.uniform(12, 45) / 20) * rng.standard_normal(len(samples))
    samples = samples / max(np.abs(samples).max(), 1e-9) * 10 ** -rng.uniform(0.05, 2.2)
    pixels = np.round(frames_FHW.clip(0, 1) * 255).astype(np.uint8)
    return KnownClip(
        subject,
        distraction,
        None if unrelated else 1000 * lag_s,
        np.repeat(pixels[..., None], 3, -1),
        rate,
        samples[None].astype(np.float32),
    )


def _drawn(
    rng: np.random.Generator, subject: str, distraction: str, lag_s: float, fps: Fraction, seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [F,H,W] in 0..1 and samples [N]."""
    thing = SUBJECTS[subject](rng, seconds)
    low, high = rng.uniform(0.1, 0.9, 2)
    slope = rng.uniform(-0.3, 0.3)
    backdrop_HW = (low + (high - low) * Y / HEIGHT + slope * X / WIDTH + 0.05 * np.sin(X / 5) * np.sin(Y / 4)).clip(
        0, 1
    )
    before, after = DISTRACTIONS[distraction](rng, seconds)
    pictures = []
    for index in range(round(seconds * fps)):
        picture_HW = backdrop_HW.astype(np.float32).copy()
        at = index / float(fps)
        before(picture_HW, at)
        thing.draw(picture_HW, at)
        pictures.append(after(picture_HW, at))
    times_N = np.arange(round(seconds * RATE)) / RATE - lag_s
    return np.stack(pictures), thing.hear(times_N)


def _toy(rng: np.random.Generator, kind: str, lag_s: float) -> tuple[np.ndarray, np.ndarray, Fraction]:
    """One scene of the toy world, or three in a row with a cut between them."""
    seeds = HELD_OUT_SEED + rng.integers(1 << 30, size=rng.choice((1, 3)))
    scenes = [render(sample_scene(np.random.default_rng(seed), kind)) for seed in seeds]
    luma_FHW = np.concatenate([scene.video for scene in scenes]) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    sound, shift = np.concatenate([scene.audio for scene in scenes]), round(lag_s * RATE)
    late = np.roll(sound, shift)
    late[slice(0, shift) if shift >= 0 else slice(shift, None)] = 0
    return luma_FHW, late, Fraction(TOY_FPS)


def _noise_alone(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    slow = np.interp(np.arange(num_samples), np.linspace(0, num_samples, 12), rng.uniform(0.2, 1, 12))
    return slow * rng.standard_normal(num_samples)


def _music(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    times_N = np.arange(num_samples) / RATE
    step = rng.uniform(0.2, 0.5)
    beats = np.arange(-step, times_N[-1], step) + rng.uniform(0, step)
    tones = sum(np.sin(2 * np.pi * rng.uniform(110, 880) * times_N) for _ in range(3))
    return 0.1 * tones + strike(times_N, beats, rng, 120, 0.06, 0.5)
