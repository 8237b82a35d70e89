"""Lag and AV-Align on clips whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from harmony_core.sync.measure import SURE, av_align, measure
from harmony_core.sync.plot import WIDTH, describe, sync_plot
from harmony_core.sync.sound import CURVE_RATE, loudness, onset_strength

RATE = 16000


def bouncing_ball(offset_s: float, fps: float) -> tuple[np.ndarray, float, np.ndarray, int]:
    """A ball under gravity that bounces ever lower, with a decaying tone at every impact."""
    impacts = np.array([-0.1, 0.62, 1.22, 1.72, 2.14, 2.5])
    frames = np.full((round(2.4 * fps), 64, 64, 3), 190, np.uint8)
    rows, columns = np.mgrid[:64, :64]
    for index, picture in enumerate(frames):
        after = np.searchsorted(impacts, index / fps, side="right")
        start, end = impacts[after - 1], impacts[after]
        height = 300 * (index / fps - start) * (end - index / fps)
        picture[(rows - 52 + height) ** 2 + (columns - 32) ** 2 < 81] = (30, 60, 200)
    times = np.arange(round(2.4 * RATE)) / RATE
    samples = np.zeros(len(times), np.float32)
    for impact in impacts + offset_s:
        since = np.maximum(times - impact, 0)
        samples += ((times >= impact) & (impact >= 0)) * np.exp(-since * 14) * np.sin(2 * np.pi * 500 * since)
    return frames, fps, samples, RATE


def talking_mouth(offset_s: float, fps: float) -> tuple[np.ndarray, float, np.ndarray, int]:
    """A mouth whose height follows the loudness of a buzzing voice, in a face that also blinks."""

    def openness(seconds):
        syllables = ((0.3, 0.06, 0.9), (0.62, 0.08, 0.6), (0.95, 0.05, 1.0), (1.5, 0.09, 0.7), (1.78, 0.06, 1.0))
        return sum(size * np.exp(-0.5 * ((seconds - at) / width) ** 2) for at, width, size in syllables)

    frames = np.full((round(2.4 * fps), 64, 64, 3), 200, np.uint8)
    rows, columns = np.mgrid[:64, :64]
    for index, picture in enumerate(frames):
        picture[((rows - 46) / (0.5 + 7 * openness(index / fps))) ** 2 + ((columns - 32) / 10) ** 2 < 1] = (90, 10, 20)
        picture[22:25, 20:44] = 60 if index % 29 else 200
    times = np.arange(round(2.4 * RATE)) / RATE
    return frames, fps, (0.3 * openness(times - offset_s) * np.sign(np.sin(2 * np.pi * 120 * times))), RATE


@pytest.mark.parametrize("offset_ms", [-120, -55, 0, 30, 80, 160])
@pytest.mark.parametrize("fps", [12.5, 25.0, 30000 / 1001])
def test_lag_of_flashes_and_clicks(flashes_and_clicks, offset_ms: int, fps: float) -> None:
    report = measure(*flashes_and_clicks(offset_ms / 1000, fps))
    assert report.lag_ms == pytest.approx(offset_ms, abs=15)
    assert report.lag_confidence > 0.5


@pytest.mark.parametrize("offset_ms", [-120, 0, 160])
@pytest.mark.parametrize("fps", [12.5, 24.0])
@pytest.mark.parametrize("clip", [bouncing_ball, talking_mouth])
def test_lag_of_impacts_and_mouths(clip, fps: float, offset_ms: int) -> None:
    report = measure(*clip(offset_ms / 1000, fps))
    assert report.lag_ms == pytest.approx(offset_ms, abs=40)  # half a frame at 12.5 fps
    assert report.basis in (("bouncing", "turning") if clip is bouncing_ball else ("opening",))


def test_noise_has_no_preferred_lag() -> None:
    rng = np.random.default_rng(0)
    reports = [
        measure(rng.integers(0, 256, (25, 64, 64, 3)).astype(np.uint8), 12.5, 0.2 * rng.standard_normal(2 * RATE), RATE)
        for _ in range(20)
    ]
    assert np.mean([report.lag_confidence < SURE for report in reports]) > 0.7
    assert np.mean([report.lag_ms is not None and abs(report.lag_ms) < 80 for report in reports]) < 0.4


def test_scores_fall_when_the_sound_is_shifted() -> None:
    together, apart = measure(*bouncing_ball(0.0, 24.0)), measure(*bouncing_ball(0.25, 24.0))
    assert together.av_align >= 0.75
    assert apart.av_align < 0.3


def test_size_colour_and_channels_do_not_matter(flashes_and_clicks) -> None:
    frames, fps, samples, rate = flashes_and_clicks(0.08)
    large = frames.repeat(4, axis=1).repeat(4, axis=2)
    stereo = np.concatenate([samples, 0.2 * samples])
    assert measure(large, fps, stereo, rate).lag_ms == pytest.approx(measure(frames, fps, samples, rate).lag_ms)


def test_compression_noise_is_no_motion(flashes_and_clicks) -> None:
    noise = np.random.default_rng(0).integers(-2, 3, (30, 256, 256, 3))
    report = measure((120 + noise).astype(np.uint8), 25, flashes_and_clicks(0)[2][:, : RATE * 30 // 25], RATE)
    assert report.lag_ms is None
    assert "does not move" in report.reason


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda frames, samples: (frames, 0 * samples), "silent"),
        (lambda frames, samples: (frames, samples[:, :0]), "silent"),
        (lambda frames, samples: (0 * frames, samples), "does not move"),
        (lambda frames, samples: (frames[:1], samples), "1 frames"),
        (lambda frames, samples: (frames[:7], samples), "7 frames"),
    ],
)
def test_what_cannot_be_measured_says_why(flashes_and_clicks, spoil, reason: str) -> None:
    frames, fps, samples, rate = flashes_and_clicks(0)
    frames, samples = spoil(frames, samples)
    report = measure(frames, fps, samples, rate)
    assert report.lag_ms is None
    assert reason in report.reason
    assert reason in describe(report)
    assert sync_plot(report, frames, samples, rate).width == WIDTH


def test_av_align_is_intersection_over_union() -> None:
    assert av_align((1.0, 2.0, 3.0), (1.02, 2.5), 0.04) == pytest.approx(1 / 4)
    assert av_align((1.0,), (1.04,), 0.04) == 1.0
    assert av_align((1.0,), (), 0.04) == 0.0
    assert av_align((1.0, 1.02, 1.04), (1.02,), 0.04) == pytest.approx(1 / 3)  # one partner each
    assert av_align((1.0, 1.08), (1.04, 1.12), 0.04) == 1.0
    assert av_align((), (), 0.04) is None


def test_motion_is_the_mean_change() -> None:
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    frames[2, :32] = 255
    motion = measure(frames, 25, np.zeros(RATE), RATE).motion
    np.testing.assert_allclose(motion, [0, 0, 0.5, 0.5], atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_audio_curves_are_on_time(rate: int) -> None:
    samples = np.zeros(rate, np.float32)
    samples[rate // 2 :][: rate // 10] = np.sin(np.arange(rate // 10) * 0.9)
    onset, loud = onset_strength(samples, rate), loudness(samples, rate)
    assert len(onset) == len(loud) == CURVE_RATE
    assert onset.argmax() / CURVE_RATE == pytest.approx(0.5, abs=0.01)
    assert np.flatnonzero(loud > 0.5)[[0, -1]] / CURVE_RATE == pytest.approx([0.5, 0.6], abs=0.02)


def test_plot_shows_both_tracks(flashes_and_clicks) -> None:
    frames, fps, samples, rate = flashes_and_clicks(0.08)
    report = measure(frames, fps, samples, rate)
    image = np.asarray(sync_plot(report, frames, samples, rate, "flashes"))
    blank = np.asarray(sync_plot(report, np.zeros_like(frames), np.zeros_like(samples), rate, "flashes"))
    assert image.shape == blank.shape
    assert (image != blank).any(-1).mean() > 0.1
    assert f"sound {report.lag_ms:.0f} ms late" in describe(report)
