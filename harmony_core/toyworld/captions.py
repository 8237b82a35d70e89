"""Captions of a scene: each says only what is true of it, in words of VOCABULARY."""

from __future__ import annotations

import numpy as np

from .scenes import BallScene, Scene
from .vocabulary import AUDIO_TEMPLATES, NUMBERS, VIDEO_TEMPLATES


def write_captions(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A video caption of at most 12 words and an audio caption of at most 10, drawn from the grammar."""
    if isinstance(scene, BallScene):
        subject, manners = "ball", ()
        values = {"colour": scene.colour, "material": scene.material, "number": NUMBERS[len(scene.impact_times)]}
    else:
        subject, manners = "face", scene.manners
        values = {"person": scene.person, "hair": scene.hair, "shirt": scene.shirt, "number": NUMBERS[len(scene.words)]}
    values["manner"] = manners[rng.integers(len(manners))] if manners else ""
    sounds = AUDIO_TEMPLATES[scene.kind]
    if not manners:
        sounds = tuple(template for template in sounds if "{manner}" not in template)
    pictures = VIDEO_TEMPLATES[f"still {subject}" if scene.kind == "still" else scene.kind]
    return _fill(pictures, values, rng), _fill(sounds, values, rng)


def _fill(templates: tuple[str, ...], values: dict[str, str], rng: np.random.Generator) -> str:
    return with_article(templates[rng.integers(len(templates))].format(**values))


def with_article(caption: str) -> str:
    """An orange ball, where a template has a."""
    return f" {caption}".replace(" a orange", " an orange").strip()
