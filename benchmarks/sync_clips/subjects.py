"""Things that are seen and heard, as functions of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RATE = 16000
HEIGHT, WIDTH = 64, 112
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) + 0.5


@dataclass(frozen=True)
class Subject:
    """`draw(picture_HW, seconds)` paints in 0..1, in place; `hear(seconds_N)` is the sound at those times."""

    draw: Callable[[np.ndarray, float], None]
    hear: Callable[[np.ndarray], np.ndarray]


def paint(picture_HW: np.ndarray, distance_HW: np.ndarray, shade: float) -> None:
    """A shape of a signed distance in pixels, negative inside."""
    cover_HW = (0.5 - distance_HW).clip(0, 1)
    picture_HW += cover_HW * (shade - picture_HW)


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """Distance to an ellipse, about."""
    radius = np.sqrt(((X - x) / rx) ** 2 + ((Y - y) / ry) ** 2)
    return (radius - 1) * min(rx, ry)


def box(x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    """Distance to a box."""
    return np.maximum(np.abs(X - x) - half_width, np.abs(Y - y) - half_height)


def event_times(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Moments of hits, from well before the clip to well after: free, or on a grid of beats with some left out."""
    if rng.random() < 0.6:
        gaps = rng.uniform(0.22, rng.uniform(0.5, 1.3), round(seconds / 0.2) + 20)
        return -1 + np.cumsum(gaps)
    step = rng.uniform(0.16, 0.3)
    times = -1 + step * np.arange(round((seconds + 2) / step))
    kept = rng.random(len(times)) < rng.uniform(0.3, 0.6)
    return times[kept] + rng.normal(0, 0.006, kept.sum())


def strike(
    times_N: np.ndarray, hits: np.ndarray, rng: np.random.Generator, pitch: float, decay: float, noisy: float
) -> np.ndarray:
    """A decaying tone, and noise, at every hit."""
    sound = np.zeros(len(times_N))
    for hit in hits:
        first, last = np.searchsorted(times_N, (hit, hit + 7 * decay))
        since = times_N[first:last] - hit
        body = (1 - noisy) * np.sin(2 * np.pi * pitch * since) + noisy * rng.standard_normal(len(since))
        sound[first:last] += rng.uniform(0.5, 1) * np.exp(-since / decay) * body
    return sound


def _mouth(rng: np.random.Generator, seconds: float) -> Subject:
    count = round((seconds + 4) * 8)
    gaps = rng.uniform(0.12, 0.32, count) + (rng.random(count) < 0.18) * rng.uniform(0.2, 0.7, count)
    starts, widths, sizes = -2 + np.cumsum(gaps), rng.uniform(0.045, 0.1, count), rng.uniform(0.25, 1, count)
    x, y, head = rng.uniform(35, 77), rng.uniform(26, 34), rng.uniform(16, 25)
    skin, lips, power = rng.uniform(0.55, 0.95), rng.uniform(0.05, 0.4), rng.uniform(0.7, 1.5)
    voice, breath, own = rng.uniform(90, 260), rng.uniform(0.05, 0.6), rng.uniform(0, 0.25)
    drift = rng.uniform(0, 2 * np.pi, 2)

    def loudness(at: np.ndarray) -> np.ndarray:
        at = np.atleast_1d(at)
        near = np.zeros(len(at))
        for start, width, size in zip(starts, widths, sizes, strict=True):
            first, last = np.searchsorted(at, (start - 4 * width, start + 4 * width))
            near[first:last] += size * np.exp(-0.5 * ((at[first:last] - start) / width) ** 2)
        return np.minimum(near, 1.3)

    def draw(picture_HW: np.ndarray, at: float) -> None:
        open_ = loudness(np.array([at]))[0] ** power
        open_ = (1 - own) * open_ + own * (0.5 + 0.5 * np.sin(5.1 * at + drift[0])) * (open_ > 0.05)
        paint(picture_HW, ellipse(x, y, head * 0.8, head), skin)
        for side in (-1, 1):
            paint(picture_HW, ellipse(x + side * head * 0.35, y - head * 0.25, 2, 2), 0.1)
        paint(picture_HW, ellipse(x, y + head * 0.45, head * 0.38, 0.6 + head * 0.26 * open_), lips)

    def hear(times_N: np.ndarray) -> np.ndarray:
        phase = 2 * np.pi * np.cumsum(voice * (1 + 0.1 * np.sin(2.2 * times_N + drift[1]))) / RATE
        tone = sum(np.sin(phase * k) / k for k in range(1, 9))
        return loudness(times_N) * ((1 - breath) * tone + breath * rng.standard_normal(len(times_N)))

    return Subject(draw, hear)


def _ball(rng: np.random.Generator, seconds: float) -> Subject:
    impacts = -1.5 + np.cumsum(rng.uniform(0.32, rng.uniform(0.5, 0.85), round((seconds + 3) / 0.3)))
    radius, floor = rng.uniform(4, 9), rng.uniform(48, 60)
    shade, ground = rng.choice((0.05, 0.2, 0.8, 0.95)), rng.uniform(0.1, 0.9)
    fall = rng.uniform(250, 480)
    x, sway, speed = rng.uniform(30, 82), rng.uniform(0, 18), rng.uniform(0.3, 1.2)
    pitch, decay, noisy = rng.uniform(80, 3500), rng.uniform(0.015, 0.09), rng.uniform(0, 0.7)

    def draw(picture_HW: np.ndarray, at: float) -> None:
        after = np.searchsorted(impacts, at, side="right")
        height = fall * (at - impacts[after - 1]) * (impacts[after] - at) / 2
        paint(picture_HW, box(WIDTH / 2, HEIGHT, WIDTH, HEIGHT - floor), ground)
        paint(picture_HW, ellipse(x + sway * np.sin(speed * at), floor - radius - height, radius, radius), shade)

    return Subject(draw, lambda times_N: strike(times_N, impacts, rng, pitch, decay, noisy))


def _swing(at: float, hits: np.ndarray, reach_s: float) -> float:
    """How far a hand or stick is from what it hits: 0 at a hit, 1 at rest; it comes faster than it goes."""
    until, since = np.min(np.where(hits >= at, hits - at, 9)), np.min(np.where(hits <= at, at - hits, 9))
    return float(min(until / reach_s, since / (1.6 * reach_s), 1.0) ** 0.8)


def _claps(rng: np.random.Generator, seconds: float) -> Subject:
    hits, reach_s = event_times(rng, seconds), rng.uniform(0.07, 0.2)
    x, y, apart, size, shade = (
        rng.uniform(35, 77),
        rng.uniform(20, 46),
        rng.uniform(5, 16),
        rng.uniform(3, 8),
        rng.uniform(0.6, 0.95),
    )
    decay = rng.uniform(0.008, 0.03)

    def draw(picture_HW: np.ndarray, at: float) -> None:
        paint(picture_HW, box(x, y + 24, 12, 20), 0.25)
        for side in (-1, 1):
            paint(
                picture_HW,
                ellipse(x + side * (size * 0.7 + apart * _swing(at, hits, reach_s)), y, size, size * 1.4),
                shade,
            )

    return Subject(draw, lambda times_N: strike(times_N, hits, rng, 1200, decay, 0.9))


def _drum(rng: np.random.Generator, seconds: float) -> Subject:
    hits, reach_s = event_times(rng, seconds), rng.uniform(0.06, 0.16)
    x, lift, shade = rng.uniform(35, 77), rng.uniform(5, 20), rng.choice((0.08, 0.92))
    pitch, decay, noisy = rng.uniform(60, 240), rng.uniform(0.03, 0.15), rng.uniform(0.1, 0.8)

    def draw(picture_HW: np.ndarray, at: float) -> None:
        paint(picture_HW, box(x, 52, 18, 9), 0.45)
        paint(picture_HW, ellipse(x, 43, 18, 4), 0.8)
        tip = 42 - lift * _swing(at, hits, reach_s)
        along = ((X - x) / 26).clip(0, 1)
        paint(
            picture_HW,
            np.maximum(np.abs(Y - (tip - along * (10 - 0.5 * (42 - tip)))) - 1.3, np.abs(X - x - 13) - 13),
            shade,
        )
        paint(picture_HW, ellipse(x, tip, 2.4, 2.4), shade)

    return Subject(draw, lambda times_N: strike(times_N, hits, rng, pitch, decay, noisy))


def _flash(rng: np.random.Generator, seconds: float) -> Subject:
    hits, held = event_times(rng, seconds), rng.uniform(0.04, 0.12)
    x, y, size = rng.uniform(20, 92), rng.uniform(15, 50), rng.choice((4, 8, 16, 200))
    pitch, decay = rng.uniform(400, 4000), rng.uniform(0.006, 0.05)

    def draw(picture_HW: np.ndarray, at: float) -> None:
        if ((hits <= at + 1e-6) & (at < hits + held)).any():
            paint(picture_HW, box(x, y, size, size), 0.97)

    return Subject(draw, lambda times_N: strike(times_N, hits, rng, pitch, decay, 0.1))


def _keys(rng: np.random.Generator, seconds: float) -> Subject:
    """Keys that are pressed and held, each at its place with its pitch."""
    hits = event_times(rng, seconds)
    places, held = rng.integers(0, 9, len(hits)), rng.uniform(0.1, 0.35, len(hits))
    shade, down = rng.uniform(0.75, 0.98), rng.uniform(0.15, 0.45)

    def draw(picture_HW: np.ndarray, at: float) -> None:
        for place in range(9):
            pressed = ((places == place) & (hits <= at) & (at < hits + held)).any()
            paint(picture_HW, box(8 + 12 * place, 44 + pressed, 5, 14), shade - down * pressed)

    def hear(times_N: np.ndarray) -> np.ndarray:
        sound = np.zeros(len(times_N))
        for hit, place in zip(hits, places, strict=True):
            sound += strike(times_N, np.array([hit]), rng, 260 * 2 ** (place / 6), 0.12, 0.02)
        return sound

    return Subject(draw, hear)


SUBJECTS = {"mouth": _mouth, "ball": _ball, "claps": _claps, "drum": _drum, "flash": _flash, "keys": _keys}
