from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from harmony_core.evaluation.toyworld import (
    ball_colour,
    bootstrap_interval,
    floor_material,
    hair_colour,
    impact_material,
    impact_scores,
    impacts_from_video,
    mouth_correlation,
    mouth_opening,
    nearest_voice,
    onsets_from_audio,
    shirt_colour,
    word_count,
)
from harmony_core.toyworld import FPS, HELD_OUT_SEED, SAMPLE_RATE, ToyClip, render, sample_scene


@cache
def clips(kind: str) -> tuple[ToyClip, ...]:
    return tuple(render(sample_scene(np.random.default_rng(HELD_OUT_SEED + seed), kind)) for seed in range(12))


def roughen(video: np.ndarray) -> np.ndarray:
    """What a small autoencoder does to a clip: a slight blur, and noise."""
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    blurred = video.astype(np.float64)
    for axis in (1, 2):
        blurred = np.apply_along_axis(np.convolve, axis, blurred, kernel / kernel.sum(), "same")
    noise = np.random.default_rng(0).normal(0, 5, video.shape)
    return np.clip(np.round(blurred + noise), 0, 255).astype(np.uint8)


def test_impacts_are_found_where_they_are() -> None:
    for clip in clips("ball"):
        truth = clip.scene.impact_times
        np.testing.assert_allclose(impacts_from_video(clip.video, FPS), truth, atol=0.004)
        np.testing.assert_allclose(onsets_from_audio(clip.audio, SAMPLE_RATE), truth, atol=0.008)


def test_impacts_survive_blur_and_noise() -> None:
    for clip in clips("ball")[:4]:
        np.testing.assert_allclose(impacts_from_video(roughen(clip.video), FPS), clip.scene.impact_times, atol=0.01)


def test_sound_that_comes_late_is_measured_as_late() -> None:
    for clip in clips("ball")[:4]:
        late = np.concatenate([np.zeros(800, dtype=np.float32), clip.audio[:-800]])
        scores = impact_scores(clip.video, late, FPS, SAMPLE_RATE)
        assert scores["mean_abs_lag_s"] == pytest.approx(0.05, abs=0.01)
        assert scores["iou"] == 1


def test_unmatched_impacts_cost_the_cap() -> None:
    clip = clips("ball")[0]
    silence = np.zeros_like(clip.audio)
    assert impact_scores(clip.video, silence, FPS, SAMPLE_RATE) == {
        "mean_abs_lag_s": 0.5,
        "within_one_frame": 0,
        "iou": 0,
    }
    once = clip.audio.copy()
    once[round((clip.scene.impact_times[1] - 0.05) * SAMPLE_RATE) :] = 0
    scores = impact_scores(clip.video, once, FPS, SAMPLE_RATE)
    assert scores["iou"] == pytest.approx(1 / len(clip.scene.impact_times))


def test_a_resting_ball_has_no_impacts() -> None:
    for clip in clips("still"):
        assert len(impacts_from_video(clip.video, FPS)) == 0
        assert len(onsets_from_audio(clip.audio, SAMPLE_RATE)) == 0
        assert impact_material(clip.audio) == nearest_voice(clip.audio) == ""


def test_mouths_correlate_with_their_own_speech_only() -> None:
    faces = clips("face")
    own = [mouth_correlation(clip.video, clip.audio, FPS) for clip in faces]
    other = [mouth_correlation(a.video, b.audio, FPS) for a, b in pairwise(faces)]
    assert min(own) > 0.97
    assert np.mean(other) < 0.6
    assert mouth_correlation(np.repeat(faces[0].video[:1], 25, axis=0), faces[0].audio, FPS) == 0
    assert np.corrcoef(mouth_opening(roughen(faces[0].video)), faces[0].mouth)[0, 1] > 0.97


def test_obedience_is_read_from_the_clip() -> None:
    for clip in clips("ball"):
        assert ball_colour(clip.video) == clip.scene.ball_colour
        assert floor_material(clip.video) == clip.scene.material
        assert impact_material(clip.audio) == clip.scene.material
    for clip in clips("face"):
        assert shirt_colour(clip.video) == clip.scene.shirt
        assert hair_colour(clip.video) == clip.scene.hair
        assert word_count(clip.audio) == len(clip.scene.words)
        assert nearest_voice(clip.audio) == clip.scene.voice


def test_bootstrap_interval_holds_the_mean_and_shrinks() -> None:
    values = np.random.default_rng(1).normal(3, 1, 400)
    low, high = bootstrap_interval(values, seed=0)
    assert low < values.mean() < high
    assert high - low < 0.25
    wide = bootstrap_interval(values[:20], seed=0)
    assert wide[1] - wide[0] > high - low
    assert bootstrap_interval(values, seed=0) == (low, high)
