"""What timestamps say: the constant rate that frames stand at, and which frame to show when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from statistics import median

import numpy as np

FALLBACK_FPS = Fraction(25)  # for a single picture, which has no rate
MAX_FPS = 240
# Rates that cameras and editors write, where no stated one fits.
USUAL_FPS = tuple(
    Fraction(rate) for rate in ("24", "25", "30", "24000/1001", "30000/1001", "50", "60", "60000/1001", "48", "12.5")
) + tuple(Fraction(rate) for rate in ("15", "10", "12", "20", "8", "100", "120", "120000/1001"))


def rate_of(times: Sequence[Fraction], stated: Iterable[Fraction | None], tick: Fraction) -> Fraction:
    """The rate at which frames were taken.

    A stated rate counts where the timestamps stand on its grid (frames may be missing) and it is theirs, not a multiple
    of it; then a usual rate; then the average of evenly spaced ones. Frames at uneven times get the rate of most.

    Args:
        times: of every frame in seconds, in order.
        tick: seconds; what timestamps are rounded to, 0 if unknown.
    """
    known = [rate for rate in stated if rate and 0 < rate <= MAX_FPS]
    steps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    if not steps:
        return known[0] if known else FALLBACK_FPS
    step = Fraction(median(steps))
    grain = 1.1 * max(float(tick), 1e-4)
    average = (len(times) - 1) / (times[-1] - times[0])
    for rate in (*known, *sorted(USUAL_FPS, key=lambda rate: _off(times, rate))):
        if abs(step * rate - 1) < Fraction(1, 4) and _off(times, rate) <= grain:
            return rate
    if _off(times, average) <= grain and abs(step * average - 1) < Fraction(1, 4):
        return average.limit_denominator(100_000)
    near = min((*known, *USUAL_FPS), key=lambda rate: abs(rate * step - 1))
    if abs(near * step - 1) < Fraction(1, 20):
        return near
    return min(Fraction(MAX_FPS), (1 / step).limit_denominator(1000))


def off_grid(times: Sequence[Fraction], fps: Fraction) -> Fraction:
    """How much later than ticks of `fps` from 0 most frames were taken, less than half a frame either way."""
    return median(time - floor(time * fps + Fraction(1, 2)) / fps for time in times)


def frames_shown(times: Sequence[Fraction], fps: Fraction, end: Fraction) -> tuple[int, ...]:
    """Which frame is to be seen at each tick of `fps` from 0 to `end` seconds: the last that came, to half a tick."""
    seconds = np.array([float(time) for time in times])
    ticks = np.arange(max(1, floor(end * fps + Fraction(1, 2)))) / float(fps)
    shown = np.searchsorted(seconds, ticks + 0.5 / float(fps) - 1e-9, side="right") - 1
    return tuple(shown.clip(0).tolist())


def nearest_frame(index: int, source_fps: Fraction, target_fps: Fraction) -> int:
    """Frame of a clip at `source_fps` that is nearest in time to frame `index` at `target_fps`; of two, the earlier."""
    return max(0, ceil(index * source_fps / target_fps - Fraction(1, 2)))


def _off(times: Sequence[Fraction], rate: Fraction) -> float:
    """How far the worst timestamp lies from the grid of a rate that begins with the first; a grid holds one a place."""
    after = np.array([float(time - times[0]) for time in times])
    places = np.floor(after * float(rate) + 0.5)
    if len(places) > 1 and np.diff(places).min() < 1:
        return float("inf")
    return float(np.abs(after - places / float(rate)).max())
