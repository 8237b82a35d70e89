"""Rates from timestamps, and which frame is shown when."""

from __future__ import annotations

from fractions import Fraction

import pytest

from harmony_core.media.times import frames_shown, nearest_frame, off_grid, rate_of

MS = Fraction(1, 1000)


def rounded(times: list[Fraction], tick: Fraction = MS) -> list[Fraction]:
    return [round(time / tick) * tick for time in times]


@pytest.mark.parametrize("rate", ["24000/1001", "24", "25", "30000/1001", "30", "12.5", "60000/1001", "50"])
@pytest.mark.parametrize("stated", ["right", "none", "1000", "fragment"])
def test_the_rate_is_found_from_milliseconds(rate: str, stated: str) -> None:
    fps = Fraction(rate)
    told = {"right": fps, "none": None, "1000": Fraction(1000), "fragment": fps * Fraction(996, 1000)}[stated]
    times = rounded([k / fps for k in range(300)])
    assert rate_of(times, (told,), MS) == fps
    del times[7:40:3]
    assert rate_of(times, (told,), MS) == fps, "frames that were dropped change no rate"


def test_an_unusual_even_rate_is_the_average() -> None:
    times = [Fraction(k, 17) for k in range(50)]
    assert rate_of(times, (), Fraction(1, 90_000)) == 17


def test_uneven_times_get_the_rate_of_most() -> None:
    times = [Fraction(0)]
    for k in range(200):
        times.append(times[-1] + Fraction(33 + (k * 7) % 5 - 2, 1000))
    assert rate_of(times, (Fraction(29),), MS) == 30
    assert rate_of([Fraction(0), Fraction(0)], (None,), MS) == 25
    assert rate_of([Fraction(0)], (Fraction(1000), Fraction(10)), MS) == 10


def test_frames_are_held_until_the_next() -> None:
    times = [Fraction(0), Fraction(1, 10), Fraction(4, 10), Fraction(5, 10)]
    assert frames_shown(times, Fraction(10), Fraction(6, 10)) == (0, 1, 1, 1, 2, 3)
    assert frames_shown([Fraction(2, 10)], Fraction(10), Fraction(4, 10)) == (0, 0, 0, 0)
    jittered = [Fraction(k, 25) + (-1) ** k * Fraction(1, 100) for k in range(10)]
    assert frames_shown(jittered, Fraction(25), Fraction(10, 25)) == tuple(range(10))


def test_the_nearest_frame_and_of_two_the_earlier() -> None:
    assert [nearest_frame(k, Fraction(25), Fraction(50)) for k in range(6)] == [0, 0, 1, 1, 2, 2]
    assert [nearest_frame(k, Fraction(30), Fraction(25, 2)) for k in range(5)] == [0, 2, 5, 7, 10]


def test_most_frames_tell_how_far_a_track_is_off_its_grid() -> None:
    """As where sound in front of a fragmented file moves every frame but the first."""
    times = [Fraction(0), *(Fraction(k, 30) + Fraction(21, 1000) for k in range(1, 40))]
    late = off_grid(times, Fraction(30))
    assert late == Fraction(21, 1000) - Fraction(1, 30)
    assert frames_shown([time - late for time in times], Fraction(30), Fraction(4, 30)) == (0, 0, 1, 2)
    assert off_grid([Fraction(k, 25) for k in range(9)], Fraction(25)) == 0
