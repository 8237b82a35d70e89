from __future__ import annotations

import json
import string
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest

from harmony_core.toyworld import (
    FPS,
    HELD_OUT_SEED,
    NUM_FRAMES,
    SAMPLE_RATE,
    SIZE,
    VOCABULARY,
    BallScene,
    Scene,
    reference_audio,
    render,
    sample_scene,
)
from harmony_core.toyworld.pictures import ball_heights
from harmony_core.toyworld.sample import SHARES
from harmony_core.toyworld.words import PERSON_OF_VOICE, VOICES, WORDS, recording, word_seconds


def scenes(kind: str | None = None, count: int = 150) -> list[Scene]:
    return [sample_scene(np.random.default_rng(HELD_OUT_SEED + seed), kind) for seed in range(count)]


@pytest.mark.parametrize("kind", SHARES)
def test_clip_has_the_promised_form_and_is_deterministic(kind: str) -> None:
    one, two = (render(sample_scene(np.random.default_rng(3), kind)) for _ in range(2))
    assert one.scene == two.scene
    assert one.video.shape == (NUM_FRAMES, SIZE, SIZE, 3)
    assert one.video.dtype == np.uint8
    assert one.audio.shape == (NUM_FRAMES * SAMPLE_RATE * 2 // 25,)
    assert one.audio.dtype == one.mouth.dtype == np.float32
    assert np.abs(one.audio).max() < 1
    assert one.video.tobytes() == two.video.tobytes()
    assert one.audio.tobytes() == two.audio.tobytes()
    assert json.loads(json.dumps(asdict(one.scene)))["video_caption"] == one.scene.video_caption


def test_captions_keep_to_the_vocabulary_and_lengths() -> None:
    assert len(VOCABULARY) < 120
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    used = set()
    for scene in scenes(count=600):
        video, audio = scene.video_caption.split(), scene.audio_caption.split()
        assert 0 < len(video) <= 12
        assert 0 < len(audio) <= 10
        used |= {*video, *audio}
    assert used <= set(VOCABULARY)
    assert len(used) > 0.9 * len(VOCABULARY)


def test_captions_say_what_is_true() -> None:
    numbers = ("zero", "one", "two", "three", "four", "five")
    for scene in scenes(count=300):
        for caption in (scene.video_caption.split(), scene.audio_caption.split()):
            counted = [numbers.index(word) for word in caption if word in numbers]
            shows_ball = isinstance(scene, BallScene)
            assert counted in ([], [len(scene.impact_times if shows_ball else scene.words)])
            persons = {word for word in caption if word in VOICES}
            assert persons <= (set() if shows_ball else {PERSON_OF_VOICE[scene.voice]})
            assert ("quietly" in caption) <= (not shows_ball and scene.loudness < 0.55)
            assert ("loudly" in caption) <= (not shows_ball and scene.loudness > 1.2)
        if isinstance(scene, BallScene):
            assert {scene.colour, scene.material} <= set(scene.video_caption.split())


def test_transcripts_are_short_and_words_do_not_overlap() -> None:
    for scene in scenes("face"):
        assert scene.transcript == " ".join(scene.words)
        assert 2 <= len(scene.words) <= 4
        assert len(scene.transcript) <= 24
        assert set(scene.transcript) <= {*string.ascii_lowercase, " "}
        spans = [
            (start, start + word_seconds(scene.voice, word))
            for start, word in zip(scene.word_times, scene.words, strict=True)
        ]
        assert spans[0][0] >= 0.05
        assert spans[-1][1] <= 1.95
        assert all(after[0] - before[1] > 0.119 for before, after in pairwise(spans))
    assert all(scene.transcript == "" for scene in scenes("ball", 20) + scenes("still", 20))


def test_every_word_is_recorded_in_every_voice() -> None:
    for voice in PERSON_OF_VOICE:
        for word in WORDS:
            samples = recording(voice, word)
            assert 0.2 * SAMPLE_RATE < len(samples) <= 0.36 * SAMPLE_RATE
            assert 0.1 < np.abs(samples).max() <= 0.61


def test_impacts_sound_where_the_ball_turns() -> None:
    for scene in scenes("ball", 24):
        audio = render(scene).audio
        assert 2 <= len(scene.impact_times) <= 5
        for seconds in scene.impact_times:
            at = round(seconds * SAMPLE_RATE)
            before, after = audio[at - 160 : at], audio[at : at + 160]
            assert np.square(after).mean() > 100 * np.square(before).mean() + 1e-5
        heights = ball_heights(scene)
        assert heights.min() >= 0
        assert heights.max() < 34
        nearest = [np.abs(np.arange(NUM_FRAMES) / float(FPS) - seconds).argmin() for seconds in scene.impact_times]
        assert heights[nearest].max() < 7  # half a frame away from the floor at the highest speed


def test_mouth_follows_the_words_and_shuts_in_silence() -> None:
    for scene in scenes("face", 10):
        clip = render(scene)
        assert clip.mouth.max() > 0.2
        for frame, openness in enumerate(clip.mouth):
            around = clip.audio[max(frame - 1, 0) * 1280 : (frame + 1) * 1280]
            assert (openness > 0.01) <= bool(np.abs(around).max() > 1e-4)
    still = render(sample_scene(np.random.default_rng(0), "still"))
    assert not still.mouth.any()
    assert not still.audio.any()


def test_ticks_light_the_lamp() -> None:
    scene = scenes("complex", 1)[0]
    clip = render(scene)
    lamp = clip.video[:, 6:11, int(scene.lamp_x) - 2 : int(scene.lamp_x) + 3, 0].mean(axis=(1, 2))
    ticks = np.array(scene.tick_times)
    for frame, red in enumerate(lamp):
        away = frame / float(FPS) - ticks
        if np.abs(away).min() < 0.04:
            assert red > 180
        if not ((away > -0.08) & (away < 0.4)).any():
            assert red < 130


def test_reference_is_the_same_voice_but_another_word() -> None:
    scene = scenes("face", 1)[0]
    reference = reference_audio(scene, 0.4, np.random.default_rng(1))
    assert reference.shape == (6400,)
    assert reference.dtype == np.float32
    heard = reference[320:]
    matches = [
        word
        for word in WORDS
        for samples in [scene.loudness * recording(scene.voice, word)]
        if np.allclose(heard[: len(samples)], samples[: len(heard)], atol=1e-6)
    ]
    assert len(matches) == 1
    assert matches[0] not in scene.words
    assert reference_audio(scenes("ball", 1)[0], 0.3, np.random.default_rng(1)).any()
    assert not reference_audio(scenes("still", 1)[0], 0.5, np.random.default_rng(1)).any()


def test_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match=r'"cat".*ball'):
        sample_scene(np.random.default_rng(0), "cat")
