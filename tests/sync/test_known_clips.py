"""Lags of clips whose truth is known, whatever else happens in the picture."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.sync_clips import RATE, known_clip
from benchmarks.sync_clips.distractions import DISTRACTIONS
from harmony_core.sync.measure import SURE, SyncReport, measure
from harmony_core.sync.plot import describe
from harmony_core.toyworld import FPS, HELD_OUT_SEED, render, sample_scene


def report_of(**which) -> SyncReport:
    clip = known_clip(**which)
    return measure(clip.frames, clip.fps, clip.samples, clip.sample_rate)


@pytest.mark.parametrize("distraction", DISTRACTIONS)
@pytest.mark.parametrize("subject", ["mouth", "ball"])
def test_nothing_beside_it_hides_a_lag(subject: str, distraction: str) -> None:
    reports = [
        report_of(seed=s, subject=subject, distraction=distraction, lag_ms=120, fps="25", seconds=6) for s in (1, 2)
    ]
    told = [report for report in reports if report.lag_ms is not None]
    assert told
    for report in told:
        assert report.lag_ms == pytest.approx(120, abs=45)
        assert (report.basis == "opening") == (subject == "mouth")


@pytest.mark.parametrize("lag_ms", [-400, -120, 0, 250, 400])
@pytest.mark.parametrize(
    ("subject", "seed", "fps"), [("claps", 3, "24000/1001"), ("drum", 5, "50"), ("keys", 3, "30"), ("flash", 3, "25")]
)
def test_lags_of_what_is_struck(subject: str, seed: int, fps: str, lag_ms: float) -> None:
    report = report_of(seed=seed, subject=subject, distraction="", lag_ms=lag_ms, fps=fps, seconds=6)
    assert report.lag_ms == pytest.approx(lag_ms, abs=45)


@pytest.mark.parametrize("unrelated", ["other", "noise", "music"])
def test_sound_of_something_else_gets_no_lag(unrelated: str) -> None:
    for seed in range(4):
        report = report_of(seed=seed, subject=("mouth", "ball")[seed % 2], seconds=6, unrelated=unrelated)
        assert report.lag_ms is None
        assert report.lag_confidence < SURE
        assert report.reason in describe(report)
        assert "ms late" not in describe(report)


@pytest.mark.parametrize(("kind", "bases"), [("ball", {"turning", "bouncing", "starting"}), ("face", {"opening"})])
def test_the_toy_world_is_in_sync_and_read_for_what_it_is(kind: str, bases: set[str]) -> None:
    reports = []
    for seed in range(8):
        clip = render(sample_scene(np.random.default_rng(HELD_OUT_SEED + seed), kind))
        reports.append(measure(clip.video, float(FPS), clip.audio, RATE))
    told = [report for report in reports if report.lag_ms is not None]
    assert len(told) >= 5  # words that come at even steps fit several lags
    assert all(abs(report.lag_ms) <= 45 for report in told)
    assert all(report.basis in bases for report in told)


@pytest.mark.parametrize("gain", [1.0, 1e-2, 1e-4])
def test_quiet_sound_is_sound(gain: float) -> None:
    clip = known_clip(3, "claps", "", 80, "25", 4)
    samples = clip.samples / np.abs(clip.samples).max() * gain
    assert measure(clip.frames, clip.fps, samples, RATE).lag_ms == pytest.approx(80, abs=30)


def test_channels_that_cancel_are_heard() -> None:
    clip = known_clip(3, "claps", "", 80, "25", 4)
    inverted = np.concatenate([clip.samples, -clip.samples])
    assert measure(clip.frames, clip.fps, inverted, RATE).lag_ms == pytest.approx(80, abs=30)


def test_a_wider_range_is_asked_for() -> None:
    clip = known_clip(4, "ball", "", 900, "25", 10)
    near = measure(clip.frames, clip.fps, clip.samples, RATE)
    wide = measure(clip.frames, clip.fps, clip.samples, RATE, max_lag_s=1.5)
    assert near.lag_ms is None
    assert (near.max_lag_ms, wide.max_lag_ms) == (500, 1500)
    assert wide.lag_ms == pytest.approx(900, abs=40)
    assert wide.to_dict()["range_ms"] == [-1500, 1500]
    assert "within 1500 ms" in describe(wide)


def test_pictures_are_read_one_by_one() -> None:
    """Memory is that of the curves: a tenth of the pictures' or less, however long the clip."""

    def pictures(count: int) -> Iterator[np.ndarray]:
        clip = known_clip(5, "ball", "", 0, "25", 4)
        for index in range(count):
            yield clip.frames[index % len(clip.frames)].repeat(6, 0).repeat(6, 1)

    size = 384 * 672 * 3
    tracemalloc.start()
    measure(pictures(100), 25, np.random.default_rng(0).standard_normal(4 * RATE), RATE)
    measure_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert measure_peak < 100 * size / 3
