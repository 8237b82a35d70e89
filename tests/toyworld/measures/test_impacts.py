from __future__ import annotations

import numpy as np
import pytest

from harmony_core.toyworld import FPS, SAMPLE_RATE
from harmony_core.toyworld.measures.impacts import impact_scores, impacts_from_video, onsets_from_audio
from harmony_core.toyworld.measures.traits import impact_material, nearest_voice

from .clips import clips, roughen


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
