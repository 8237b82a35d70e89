"""What is seen beside or over a subject and has no sound, as functions of time.

Each returns what paints behind the subject, and what changes the finished picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .subjects import HEIGHT, WIDTH, box, ellipse, paint

Painter = Callable[[np.ndarray, float], None]
Changer = Callable[[np.ndarray, float], np.ndarray]


def _nothing(_rng: np.random.Generator, _seconds: float) -> tuple[Painter, Changer]:
    return lambda _picture, _at: None, lambda picture, _at: picture


def moved(picture_HW: np.ndarray, right: float, down: float) -> np.ndarray:
    """The picture moved by fractions of pixels, its edges repeated."""
    for axis, by in ((0, down), (1, right)):
        whole = int(np.floor(by))
        padded = np.pad(picture_HW, [(abs(whole) + 1,) * 2 if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        near, far = np.roll(padded, whole, axis), np.roll(padded, whole + 1, axis)
        mixed = near + (by - whole) * (far - near)
        inside = slice(abs(whole) + 1, -abs(whole) - 1)
        picture_HW = mixed[inside] if axis == 0 else mixed[:, inside]
    return picture_HW


def _jump_cut(rng: np.random.Generator, seconds: float) -> tuple[Painter, Changer]:
    at_s, by = rng.uniform(0.25, 0.75) * seconds, rng.choice((-1, 1)) * rng.uniform(5, 16)
    return _nothing(rng, seconds)[0], lambda picture, at: moved(picture, by, 2) if at >= at_s else picture


def _leap(rng: np.random.Generator, seconds: float) -> tuple[Painter, Changer]:
    """Another thing jumps to another place, once or twice."""
    moments, y, size = np.sort(rng.uniform(0.2, 0.8, 2)) * seconds, rng.uniform(8, 20), rng.uniform(5, 9)
    places, shade = rng.uniform(8, 104, 3), rng.choice((0.05, 0.95))

    def before(picture_HW: np.ndarray, at: float) -> None:
        paint(picture_HW, ellipse(places[np.searchsorted(moments, at)], y, size, size), shade)

    return before, _nothing(rng, seconds)[1]


def _two_cameras(rng: np.random.Generator, seconds: float) -> tuple[Painter, Changer]:
    first, length, kind = rng.uniform(0.2, 0.5) * seconds, rng.uniform(0.7, 2), rng.integers(3)

    def after(picture_HW: np.ndarray, at: float) -> np.ndarray:
        if at < first or int((at - first) / length) % 2:
            return picture_HW
        if kind == 0:
            return picture_HW[::-1] * 0.5 + 0.25
        if kind == 1:
            return picture_HW[:, ::-1] * 0.8
        rows, columns = (np.arange(HEIGHT) // 2 + 16), (np.arange(WIDTH) // 2 + 28)  # nearer
        return picture_HW[rows][:, columns]

    return _nothing(rng, seconds)[0], after


def _captions(rng: np.random.Generator, seconds: float) -> tuple[Painter, Changer]:
    changes = np.cumsum(rng.uniform(0.25, rng.uniform(0.5, 1.6), round(seconds / 0.25) + 4))
    lengths, shade = (
        rng.uniform(0, 45, len(changes) + 1) * (rng.random(len(changes) + 1) < 0.85),
        rng.choice((0.02, 0.98)),
    )

    def after(picture_HW: np.ndarray, at: float) -> np.ndarray:
        length = lengths[min(np.searchsorted(changes, at), len(changes))]
        if length > 2:
            paint(picture_HW, box(WIDTH / 2, 58, length, 3), shade)
        return picture_HW

    return _nothing(rng, seconds)[0], after


def _fade(rng: np.random.Generator, seconds: float) -> tuple[Painter, Changer]:
    into, out, to = rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.2), rng.choice((0.0, 1.0))

    def after(picture_HW: np.ndarray, at: float) -> np.ndarray:
        light = min(at / into, (seconds - at) / out, 1)
        return to + max(light, 0) * (picture_HW - to)

    return _nothing(rng, seconds)[0], after


def _nod(rng: np.random.Generator, seconds: float) -> tuple[Painter, Changer]:
    size, speed, phase = rng.uniform(1, 4), 2 * np.pi * rng.uniform(0.5, 1.6), rng.uniform(0, 6)
    return _nothing(rng, seconds)[0], lambda picture, at: moved(picture, 0, size * np.sin(speed * at + phase))


def _pan(rng: np.random.Generator, seconds: float) -> tuple[Painter, Changer]:
    speed = rng.choice((-1, 1)) * rng.uniform(4, 24) / seconds
    return _nothing(rng, seconds)[0], lambda picture, at: moved(picture, speed * (at - seconds / 2), 0)


def _passer_by(rng: np.random.Generator, seconds: float) -> tuple[Painter, Changer]:
    start, speed = rng.uniform(0.1, 0.6) * seconds, rng.uniform(40, 120)
    shade, width = rng.choice((0.05, 0.95)), rng.uniform(6, 14)

    def before(picture_HW: np.ndarray, at: float) -> None:
        paint(picture_HW, box(speed * (at - start), 40, width, 24), shade)

    return before, _nothing(rng, seconds)[1]


def _shake(rng: np.random.Generator, seconds: float) -> tuple[Painter, Changer]:
    path = np.cumsum(rng.normal(0, 0.5, (round(seconds * 12) + 4, 2)), 0)
    path -= np.linspace(0, 1, len(path))[:, None] * path[-1]
    clock, size = np.arange(len(path)) / 12, rng.uniform(0.3, 1)

    def after(picture_HW: np.ndarray, at: float) -> np.ndarray:
        return moved(picture_HW, *(size * np.interp(at, clock, path[:, axis]) for axis in (0, 1)))

    return _nothing(rng, seconds)[0], after


def _blink(rng: np.random.Generator, seconds: float) -> tuple[Painter, Changer]:
    """A small light that goes on and off by itself."""
    times, x, y = np.cumsum(rng.uniform(0.2, 1.5, round(seconds / 0.2) + 4)), rng.uniform(8, 104), rng.uniform(5, 12)

    def before(picture_HW: np.ndarray, at: float) -> None:
        if np.searchsorted(times, at) % 2:
            paint(picture_HW, ellipse(x, y, 4, 4), 0.95)

    return before, _nothing(rng, seconds)[1]


DISTRACTIONS = {
    "": _nothing,
    "jump cut": _jump_cut,
    "leap": _leap,
    "two cameras": _two_cameras,
    "captions": _captions,
    "fade": _fade,
    "nod": _nod,
    "pan": _pan,
    "passer-by": _passer_by,
    "shake": _shake,
    "blink": _blink,
}
