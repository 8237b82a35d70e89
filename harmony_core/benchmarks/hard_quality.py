"""Held-out scenes of the hard world, measured from pixels and samples as quality.py measures the plain world's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from ..pipelines import HarmonyPipeline
from ..toyworld import FPS, SAMPLE_RATE, HardScene, reference_audio
from ..toyworld.hard import HARD_SHARES
from ..toyworld.measures.hard import ball_colours, ball_scores, room_agrees
from ..toyworld.measures.mouths import mouth_correlation
from ..toyworld.measures.traits import nearest_voice
from ..toyworld.rooms import ROOMS
from ..toyworld.scenes import BallScene, FaceScene
from .quality import Clip, Generated, HeldOut

KINDS = tuple(HARD_SHARES)
METRICS = ("ball_iou", "ball_lag_s", "attribution", "unseen_answered", "mouth_r", "voice", "room_agrees", "colours")
DUBBED = Generated(given=("video", "reference_audio"), guided=False, kinds=KINDS)


def score_hard(scene: HeldOut, clip: Clip) -> dict[str, float]:
    """All of METRICS that apply to the scene's kind; `voice`, `colours` and `room_agrees` are 1 or 0."""
    wanted, (frames, samples) = scene.clip.scene, clip
    assert isinstance(wanted, HardScene)
    scores = {"room_agrees": room_agrees(frames, samples)}
    if wanted.materials:
        asked = tuple(ball.colour for ball in wanted.parts if isinstance(ball, BallScene))
        unseen = wanted.unseen.material if wanted.unseen else ""
        scores |= ball_scores(frames, samples, wanted.materials, FPS, SAMPLE_RATE, unseen)
        return scores | {"colours": float(ball_colours(frames) == asked)}
    (face,) = wanted.parts
    assert isinstance(face, FaceScene)
    voice = float(nearest_voice(samples) == face.voice)
    return scores | {"mouth_r": mouth_correlation(frames, samples, FPS), "voice": voice}


def dubbed(
    scenes: Sequence[HeldOut], pipeline: HarmonyPipeline, batch: int, progress: Callable[[int, int], None]
) -> Iterable[tuple[HeldOut, Clip]]:
    """The sound of a film, with a reference that was recorded in another room than the film's."""
    return DUBBED([recorded_elsewhere(scene) for scene in scenes], pipeline, batch, progress)


def recorded_elsewhere(held: HeldOut) -> HeldOut:
    """The same, with a reference of the same voice or material that was recorded in the other room."""
    scene = held.clip.scene
    assert isinstance(scene, HardScene)
    other = ROOMS[1 - ROOMS.index(scene.room)]
    seconds = len(held.reference) / SAMPLE_RATE
    rng = np.random.default_rng((held.seed, 1))
    return replace(held, reference=reference_audio(replace(scene, room=other), seconds, rng))
