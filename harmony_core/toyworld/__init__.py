"""A small world made by formulas: bouncing balls and speaking faces, each with its sound, captions and transcript.

Training draws scenes from the seeds 0, 1, 2, ...; evaluation from HELD_OUT_SEED on. There are five worlds: the
plain one; the same with speech that starts and pauses freely, and either of these by chance (sample.py); a harder one,
and that with sounds from outside the picture (hard.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .hard import HardScene, hard_audio, hard_video, sample_hard_scene, sample_unseen_scene
from .pictures import scene_video
from .rooms import reverberate
from .sample import sample_free_speech, sample_mixed_scene, sample_scene
from .scenes import FPS, HELD_OUT_SEED, NUM_FRAMES, SECONDS, SIZE, BallScene, FaceScene, Scene
from .sounds import mouth_openness, scene_audio
from .sounds import reference_audio as plain_reference_audio
from .vocabulary import VOCABULARY
from .words import SAMPLE_RATE

__all__ = [
    "FPS",
    "FREE_SPEECH",
    "HARD",
    "HELD_OUT_SEED",
    "MIXED",
    "NUM_FRAMES",
    "PLAIN",
    "SAMPLE_RATE",
    "SECONDS",
    "SIZE",
    "UNSEEN",
    "VOCABULARY",
    "WORLDS",
    "BallScene",
    "FaceScene",
    "HardScene",
    "Scene",
    "ToyClip",
    "reference_audio",
    "render",
    "sample_free_speech",
    "sample_hard_scene",
    "sample_mixed_scene",
    "sample_scene",
    "sample_unseen_scene",
]

PLAIN, FREE_SPEECH, MIXED, HARD, UNSEEN = "plain", "free_speech", "mixed", "hard", "unseen"
WORLDS = {
    PLAIN: sample_scene,
    FREE_SPEECH: sample_free_speech,
    MIXED: sample_mixed_scene,
    HARD: sample_hard_scene,
    UNSEEN: sample_unseen_scene,
}


@dataclass(frozen=True)
class ToyClip:
    """`video` uint8 [25, 64, 64, 3], `audio` float32 [32000] in -1..1, `mouth` float32 [25], 0 closed .. 1 open."""

    video: np.ndarray
    audio: np.ndarray
    mouth: np.ndarray
    scene: Scene | HardScene


def render(scene: Scene | HardScene) -> ToyClip:
    """Draw and sound a scene. The same scene always gives the same bytes."""
    first = scene.parts[0] if isinstance(scene, HardScene) else scene
    mouth = mouth_openness(first) if isinstance(first, FaceScene) else np.zeros(NUM_FRAMES, np.float32)
    if isinstance(scene, HardScene):
        return ToyClip(hard_video(scene), hard_audio(scene), mouth, scene)
    return ToyClip(scene_video(scene), scene_audio(scene), mouth, scene)


def reference_audio(scene: Scene | HardScene, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A sample of the scene's voice or material, in its room, that is not in the scene: float32 [seconds * 16 kHz].

    Another word of the same voice, or another impact on the same floor, of two balls on either's; silence for a still
    scene.
    """
    if not isinstance(scene, HardScene):
        return plain_reference_audio(scene, seconds, rng)
    dry = plain_reference_audio(scene.parts[rng.integers(len(scene.parts))], seconds, rng)
    return np.clip(reverberate(dry, scene.room), -1, 1).astype(np.float32)
