"""Held-out scenes of the hard world, measured from pixels and samples as quality.py measures the plain world's."""

from __future__ import annotations

from ..toyworld import FPS, SAMPLE_RATE, HardScene
from ..toyworld.hard import HARD_SHARES
from ..toyworld.measures.hard import ball_colours, ball_scores, room_agrees
from ..toyworld.measures.mouths import mouth_correlation
from ..toyworld.scenes import BallScene
from .quality import Clip, HeldOut

KINDS = tuple(HARD_SHARES)
METRICS = ("ball_iou", "ball_lag_s", "attribution", "unseen_answered", "mouth_r", "room_agrees", "colours")


def score_hard(scene: HeldOut, clip: Clip) -> dict[str, float]:
    """All of METRICS that apply to the scene's kind; `colours` and `room_agrees` are 1 or 0."""
    wanted, (frames, samples) = scene.clip.scene, clip
    assert isinstance(wanted, HardScene)
    scores = {"room_agrees": room_agrees(frames, samples)}
    if wanted.materials:
        asked = tuple(ball.colour for ball in wanted.parts if isinstance(ball, BallScene))
        unseen = wanted.unseen.material if wanted.unseen else ""
        scores |= ball_scores(frames, samples, wanted.materials, FPS, SAMPLE_RATE, unseen)
        return scores | {"colours": float(ball_colours(frames) == asked)}
    return scores | {"mouth_r": mouth_correlation(frames, samples, FPS)}
