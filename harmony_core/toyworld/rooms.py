"""Rooms that are seen and heard: a small one, and a large hall with its reverberation."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

from .drawing import INK, Canvas, coverage
from .pictures import FLOOR_Y
from .words import SAMPLE_RATE

# How a room answers a short sound: (s until the first echo, s until the echoes are 60 dB down, dB of their energy).
_ECHOES = {"small": (0.003, 0.12, -9.0), "hall": (0.015, 1.2, -5.0)}
ROOMS = tuple(_ECHOES)
_COLUMNS = (6.0, 23.0, 41.0, 58.0)


def draw_room(canvas: Canvas, room: str) -> None:
    """Walls close by and a low ceiling, or columns that carry a vault; grey beside balls and faces."""
    x, y = canvas.x, canvas.y
    above = coverage(y - FLOOR_Y)
    if room == "small":
        walls = coverage(np.minimum(x, 64 - x) - 7) * above
        ceiling = coverage(y - 6) * coverage(7 - np.minimum(x, 64 - x))
        canvas.paint(0.42 * walls, INK)
        canvas.paint(0.22 * ceiling, INK)
        return
    columns = np.min([np.abs(x - at) for at in _COLUMNS], axis=0)
    canvas.paint(0.3 * coverage(columns - 3.2) * above, INK)
    canvas.paint(0.5 * coverage(columns - 1.2) * above, (236, 234, 232))
    openings = [canvas.ellipse_distance((a + b) / 2, 9, (b - a) / 2, 8) for a, b in pairwise(_COLUMNS)]
    vault = np.maximum(y - 9, -np.min(openings, axis=0))
    canvas.paint(0.4 * coverage(vault), INK)


@cache
def _answer(room: str) -> np.ndarray:
    """What a click sounds like in the room: float64 [samples], the click itself first."""
    delay, seconds, level = _ECHOES[room]
    first, num_samples = round(delay * SAMPLE_RATE), round(seconds * SAMPLE_RATE)
    t = np.arange(num_samples) / SAMPLE_RATE
    echoes = np.random.default_rng(ROOMS.index(room)).standard_normal(num_samples) * 10 ** (-3 * t / seconds)
    echoes *= 10 ** (level / 20) / np.sqrt((echoes**2).sum())
    return np.concatenate([[1.0], np.zeros(first - 1), echoes])


def reverberate(audio: np.ndarray, room: str) -> np.ndarray:
    """A sound [samples] as it is heard in the room, as long as it was."""
    answer = _answer(room)
    size = 1 << (len(audio) + len(answer)).bit_length()
    return np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(answer, size), size)[: len(audio)]
