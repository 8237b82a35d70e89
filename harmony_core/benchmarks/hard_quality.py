"""Held-out scenes of the hard world, measured from pixels and samples as quality.py measures the plain world's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..toyworld import FPS, HELD_OUT_SEED, SAMPLE_RATE, HardScene, reference_audio, render, sample_hard_scene
from ..toyworld.hard import HARD_SHARES
from ..toyworld.measures.hard import ball_colours, ball_scores, room_agrees
from ..toyworld.measures.mouths import mouth_correlation
from ..toyworld.scenes import BallScene
from .quality import Clip, HeldOut

KINDS = tuple(HARD_SHARES)
METRICS = ("ball_iou", "ball_lag_s", "attribution", "mouth_r", "room_agrees", "colours")


def held_out_hard(count: int, reference_seconds: float) -> list[HeldOut]:
    """`count` scenes, balls and faces in turn, from seeds that no training run draws from."""
    scenes = []
    for index in range(count):
        rng = np.random.default_rng(HELD_OUT_SEED + index)
        clip = render(sample_hard_scene(rng, KINDS[index % len(KINDS)]))
        scenes.append(HeldOut(HELD_OUT_SEED + index, clip, reference_audio(clip.scene, reference_seconds, rng)))
    return scenes


def shuffled_hard(scenes: Sequence[HeldOut]) -> Iterator[tuple[HeldOut, Clip]]:
    """Each picture with the sound of the next scene of its kind: what chance scores."""
    for index, scene in enumerate(scenes):
        yield scene, (scene.clip.video, scenes[(index + len(KINDS)) % len(scenes)].clip.audio)


def score_hard(scene: HeldOut, clip: Clip) -> dict[str, float]:
    """All of METRICS that apply to the scene's kind; `colours` and `room_agrees` are 1 or 0."""
    wanted, (frames, samples) = scene.clip.scene, clip
    assert isinstance(wanted, HardScene)
    scores = {"room_agrees": room_agrees(frames, samples)}
    if wanted.materials:
        asked = tuple(ball.colour for ball in wanted.parts if isinstance(ball, BallScene))
        scores |= ball_scores(frames, samples, wanted.materials, FPS, SAMPLE_RATE)
        return scores | {"colours": float(ball_colours(frames) == asked)}
    return scores | {"mouth_r": mouth_correlation(frames, samples, FPS)}
