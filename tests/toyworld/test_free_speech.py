"""Speech that starts and pauses when it likes: what its scenes keep of the plain world's, and what they do not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from harmony_core.toyworld import (
    HELD_OUT_SEED,
    SECONDS,
    FaceScene,
    Scene,
    sample_free_speech,
    sample_mixed_scene,
    sample_scene,
)
from harmony_core.toyworld.words import word_seconds

SEEDS = range(HELD_OUT_SEED, HELD_OUT_SEED + 200)


def free(kind: str) -> list[FaceScene]:
    scenes = [sample_free_speech(np.random.default_rng(seed), kind) for seed in SEEDS]
    return [scene for scene in scenes if isinstance(scene, FaceScene)]


def gaps(scene: FaceScene) -> list[float]:
    """Silence before the first word, between words and after the last one, in seconds."""
    ends = [at + word_seconds(scene.voice, word) for at, word in zip(scene.word_times, scene.words, strict=True)]
    return [start - end for start, end in zip((*scene.word_times, SECONDS), (0.0, *ends), strict=True)]


def test_words_keep_their_order_and_a_gap_but_no_rhythm() -> None:
    starts, pauses = [], []
    for scene in free("face") + free("complex"):
        first, *between, last = gaps(scene)
        assert first > 0.059
        assert last > 0.059
        assert min(between) > 0.119
        starts.append(first)
        pauses += [abs(one - two) for one, two in pairwise(between)]
    assert np.quantile(starts, 0.1) < 0.15
    assert np.quantile(starts, 0.9) > 0.5
    assert np.median(pauses) > 0.04  # in the plain world all pauses of a scene are one


def test_only_the_times_and_what_is_said_of_them_differ_from_the_plain_world() -> None:
    for seed in SEEDS:
        for kind in ("face", "ball", "still"):
            plain, loose = (draw(np.random.default_rng(seed), kind) for draw in (sample_scene, sample_free_speech))
            assert _without_times(plain) == _without_times(loose)
            if isinstance(plain, FaceScene) and plain.words:
                assert plain.word_times != loose.word_times
            else:
                assert plain == loose


def _without_times(scene: Scene) -> dict:
    return {
        name: value
        for name, value in vars(scene).items()
        if name not in ("word_times", "video_caption", "audio_caption")
    }


def test_captions_call_only_that_slow_or_quick_which_is_so_throughout() -> None:
    told = 0
    for scene in free("face"):
        _, *between, _ = gaps(scene)
        assert ("slowly" in scene.audio_caption) <= (min(between) > 0.24)
        assert ("quickly" in scene.audio_caption) <= (max(between) < 0.16)
        told += "slowly" in scene.audio_caption
    assert told


def test_mixed_scenes_are_of_either_kind() -> None:
    even = [np.ptp(gaps(scene)[1:-1]) < 1e-3 for scene in _mixed() if len(scene.words) > 2]
    assert 0.35 < np.mean(even) < 0.65


def _mixed() -> list[FaceScene]:
    scenes = [sample_mixed_scene(np.random.default_rng(seed), "face") for seed in SEEDS]
    return [scene for scene in scenes if isinstance(scene, FaceScene)]
