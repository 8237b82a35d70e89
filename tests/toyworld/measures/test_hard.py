"""The hard world's measures against ground truth and against shuffled pairs."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from harmony_core.toyworld import (
    FPS,
    HELD_OUT_SEED,
    SAMPLE_RATE,
    HardScene,
    ToyClip,
    render,
    sample_hard_scene,
    sample_unseen_scene,
)
from harmony_core.toyworld.measures.hard import ball_colours, ball_scores, onset_material, room_heard, room_seen
from harmony_core.toyworld.measures.mouths import mouth_correlation
from harmony_core.toyworld.scenes import BallScene

from .clips import roughen


@cache
def clips(kind: str) -> tuple[ToyClip, ...]:
    return tuple(render(sample_hard_scene(np.random.default_rng(HELD_OUT_SEED + seed), kind)) for seed in range(12))


def scored(picture: ToyClip, sound: ToyClip) -> dict[str, float]:
    assert isinstance(picture.scene, HardScene)
    return ball_scores(picture.video, sound.audio, picture.scene.materials, FPS, SAMPLE_RATE)


def means(pairs: list[dict[str, float]], name: str) -> float:
    return float(np.mean([each[name] for each in pairs if name in each]))


def test_truth_is_near_the_top_and_shuffled_pairs_are_at_chance() -> None:
    truth = [scored(clip, clip) for clip in clips("two balls")]
    shuffled = [scored(one, other) for one, other in zip(clips("two balls"), clips("two balls")[1:], strict=False)]
    assert means(truth, "ball_iou") > 0.95
    assert means(truth, "ball_lag_s") < 0.03
    assert means(truth, "attribution") > 0.95
    assert means(shuffled, "ball_iou") < 0.3
    assert means(shuffled, "ball_lag_s") > 0.2
    assert means(shuffled, "attribution") < 0.7


def test_sounds_of_the_other_ball_are_no_impacts_of_this_one() -> None:
    """The pictures' halves changed places: every impact has its sound, but from the wrong ball."""
    for clip in clips("two balls")[:6]:
        assert isinstance(clip.scene, HardScene)
        swapped = np.roll(clip.video, 32, axis=2)
        scores = ball_scores(swapped, clip.audio, clip.scene.materials, FPS, SAMPLE_RATE)
        assert scores["attribution"] < 0.2
        assert scores["ball_iou"] < 0.3


def test_silence_has_no_attribution() -> None:
    clip = clips("two balls")[0]
    assert isinstance(clip.scene, HardScene)
    scores = ball_scores(clip.video, np.zeros_like(clip.audio), clip.scene.materials, FPS, SAMPLE_RATE)
    assert scores == {"ball_lag_s": 0.5, "ball_iou": 0}
    assert room_heard(np.zeros_like(clip.audio)) == ""


def test_a_ball_outside_the_picture_is_told_from_those_inside() -> None:
    rendered = [
        render(sample_unseen_scene(np.random.default_rng(HELD_OUT_SEED + seed), "two balls")) for seed in range(16)
    ]

    def scores(picture: ToyClip, sound: ToyClip) -> dict[str, float]:
        scene = picture.scene
        assert isinstance(scene, HardScene)
        assert scene.unseen is not None
        return ball_scores(picture.video, sound.audio, scene.materials, FPS, SAMPLE_RATE, scene.unseen.material)

    truth = [scores(clip, clip) for clip in rendered]
    shuffled = [scores(one, other) for one, other in pairwise(rendered)]
    assert means(truth, "ball_iou") > 0.95  # though a third of what is heard is not seen
    assert means(truth, "attribution") > 0.95
    assert means(truth, "unseen_answered") < 0.05
    assert len([each for each in truth if "unseen_answered" in each]) == 16
    assert means(shuffled, "unseen_answered") > 0.4
    assert means(shuffled, "ball_iou") < 0.3


def test_each_impact_sounds_of_its_floor() -> None:
    found = []
    for clip in clips("two balls"):
        for ball in clip.scene.parts if isinstance(clip.scene, HardScene) else ():
            assert isinstance(ball, BallScene)
            found += [onset_material(clip.audio, at) == ball.material for at in ball.impact_times]
    assert np.mean(found) > 0.9


@pytest.mark.parametrize("kind", ["two balls", "speech"])
def test_rooms_are_seen_and_heard(kind: str) -> None:
    seen = [room_seen(roughen(clip.video)) == clip.scene.room for clip in clips(kind)]
    heard = [room_heard(clip.audio) == clip.scene.room for clip in clips(kind)]
    assert np.mean(seen) == 1
    assert np.mean(heard) > 0.9
    assert len({clip.scene.room for clip in clips(kind)}) == 2


def test_colours_and_mouths_are_measured_in_rooms_too() -> None:
    for clip in clips("two balls"):
        assert isinstance(clip.scene, HardScene)
        assert ball_colours(clip.video) == tuple(ball.colour for ball in clip.scene.parts)
    truth = [mouth_correlation(clip.video, clip.audio, FPS) for clip in clips("speech")]
    shuffled = [
        mouth_correlation(one.video, other.audio, FPS)
        for one, other in zip(clips("speech"), clips("speech")[1:], strict=False)
    ]
    assert np.mean(truth) > 0.9
    assert np.mean(shuffled) < 0.5
