"""A small world made by formulas: bouncing balls and speaking faces, each with its sound, captions and transcript.

Training draws scenes from the seeds 0, 1, 2, ...; evaluation from HELD_OUT_SEED on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .pictures import scene_video
from .sample import sample_scene
from .scenes import FPS, HELD_OUT_SEED, NUM_FRAMES, SIZE, BallScene, FaceScene, Scene
from .sounds import mouth_openness, reference_audio, scene_audio
from .vocabulary import VOCABULARY
from .words import SAMPLE_RATE

__all__ = [
    "FPS",
    "HELD_OUT_SEED",
    "NUM_FRAMES",
    "SAMPLE_RATE",
    "SIZE",
    "VOCABULARY",
    "BallScene",
    "FaceScene",
    "Scene",
    "ToyClip",
    "reference_audio",
    "render",
    "sample_scene",
]


@dataclass(frozen=True)
class ToyClip:
    """`video` uint8 [25, 64, 64, 3], `audio` float32 [32000] in -1..1, `mouth` float32 [25], 0 closed .. 1 open."""

    video: np.ndarray
    audio: np.ndarray
    mouth: np.ndarray
    scene: Scene


def render(scene: Scene) -> ToyClip:
    """Draw and sound a scene. The same scene always gives the same bytes."""
    mouth = mouth_openness(scene) if isinstance(scene, FaceScene) else np.zeros(NUM_FRAMES, np.float32)
    return ToyClip(scene_video(scene), scene_audio(scene), mouth, scene)
