from __future__ import annotations

from harmony_core.toyworld.measures.traits import (
    ball_colour,
    floor_material,
    hair_colour,
    impact_material,
    nearest_voice,
    shirt_colour,
)
from harmony_core.toyworld.measures.words import word_count

from .clips import clips


def test_obedience_is_read_from_the_clip() -> None:
    for clip in clips("ball"):
        assert ball_colour(clip.video) == clip.scene.colour
        assert floor_material(clip.video) == clip.scene.material
        assert impact_material(clip.audio) == clip.scene.material
    for clip in clips("face"):
        assert shirt_colour(clip.video) == clip.scene.shirt
        assert hair_colour(clip.video) == clip.scene.hair
        assert word_count(clip.audio) == len(clip.scene.words)
        assert nearest_voice(clip.audio) == clip.scene.voice
