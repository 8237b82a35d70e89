from __future__ import annotations

import numpy as np

from harmony_core.toyworld.measures.traits import (
    ball_colour,
    disc_overlap,
    floor_material,
    hair_colour,
    impact_material,
    nearest_voice,
    roundness,
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


def test_balls_that_lose_their_shape_are_told_from_whole_ones() -> None:
    for clip in clips("ball"):
        backdrop = np.broadcast_to(clip.video[:, :, :1], clip.video.shape)
        seen = np.abs(clip.video.astype(int) - backdrop)[:, :52].max(axis=3) > 30
        bitten = clip.video.copy()
        for frame, ball in enumerate(seen):
            (top, bottom), (left, right) = (np.flatnonzero(ball.any(axis=axis))[[0, -1]] for axis in (1, 0))
            for rows in (np.s_[top : top + 5], np.s_[bottom - 4 : bottom + 1]):
                for columns in (np.s_[left : left + 5], np.s_[right - 4 : right + 1]):
                    bitten[frame, rows, columns] = backdrop[frame, rows, columns]
        whole = disc_overlap(clip.video)
        assert whole > 0.94
        assert disc_overlap(bitten) < whole - 0.05
        assert abs(roundness(bitten) - roundness(clip.video)) < 0.03  # bitten on all sides, it keeps its axes
        assert disc_overlap(backdrop) == 0
