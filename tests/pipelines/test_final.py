"""What is written of a clip beside given media."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from harmony_core.media import AudioClip, MediaError, VideoClip, fit_count, fit_length
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.pipelines.final import check_given, final_clip
from harmony_core.pixels import from_pixels, to_pixels
from harmony_core.request import Generation

FRAMES = np.arange(13, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2).repeat(3, 3)
MADE = Generation(
    frames=FRAMES,
    samples=np.full((1, 16640), 0.5, np.float32),
    fps=Fraction(25, 2),
    sample_rate=16000,
    latents_video=torch.zeros(1),
    latents_audio=torch.zeros(1),
    notes=(),
    passes_per_step=1.0,
    seed=0,
)


def film(count: int, fps: int = 30, size: tuple[int, int] = (40, 30)) -> VideoClip:
    width, height = size
    frames = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(height, 1).repeat(width, 2).repeat(3, 3)
    return VideoClip(frames, Fraction(fps), "film.mp4", size)


def test_lengths_are_cut_and_held() -> None:
    assert fit_length(np.ones((2, 3)), 5).tolist() == [[1, 1, 1, 0, 0]] * 2
    assert fit_length(np.ones((2, 3)), 2).tolist() == [[1, 1]] * 2
    assert list(fit_count(iter("abc"), 5)) == list("abccc")
    assert list(fit_count(iter("abc"), 2)) == list("ab")
    assert list(fit_count(iter(""), 2)) == []


@pytest.mark.parametrize(("seconds", "count"), [(None, 31), (0.5, 15), (1.05, 32), (2.0, 60)])
def test_the_films_own_frames_and_the_sound_made_for_them(seconds: float | None, count: int) -> None:
    request = GenerateRequest(prompt="", video=film(31), seconds=seconds)
    final = final_clip(MADE, request, "original")
    assert (final.fps, final.size, len(final.frames), final.given_film) == (30, (40, 30), count, True)
    assert [frame[0, 0, 0] for frame in final.written()] == [min(k, 30) for k in range(count)]
    assert final.samples.shape == (1, round(count / 30 * 16000))
    assert (final.samples[0, :16640] == 0.5).all()
    assert not final.samples[0, 16640:].any()
    assert final_clip(MADE, request, "model").frames is FRAMES


def test_a_given_sound_keeps_what_a_film_can_hold() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, (2, 50000)).astype(np.float32)
    given = AudioClip(sound, 48000, "a.wav", channels=("FL", "FR"))
    final = final_clip(MADE, GenerateRequest(prompt="", audio=given), "original")
    assert (final.sample_rate, final.channels, final.bit_rate) == (48000, ("FL", "FR"), 512_000)
    np.testing.assert_array_equal(final.samples, sound[:, :49920])  # 13 frames at 12.5 a second
    assert final.frames is FRAMES
    eight = AudioClip(sound[:1].repeat(8, 0), 192_000, "b.wav")
    final = final_clip(MADE, GenerateRequest(prompt="", audio=eight), "original")
    assert final.samples.shape == (1, 99840)
    assert final.notes == (
        "b.wav: 8 channels -> mono, films take 6",
        "b.wav: 192000 Hz -> 96000 Hz, films have no such rate",
    )


def test_a_film_that_cannot_be_written_is_found_before() -> None:
    check_given(GenerateRequest(prompt="", video=film(2)), "original")
    large = GenerateRequest(prompt="", video=VideoClip(FRAMES, Fraction(25), "wide.mp4", (9000, 100)))
    with pytest.raises(MediaError, match=r"wide\.mp4 is 9000x100, which H\.264 does not take; use --given model"):
        check_given(large, "original")
    check_given(large, "model")
    with pytest.raises(MediaError, match="too large"):
        check_given(GenerateRequest(prompt="", video=film(2, size=(400, 30))), "original", scale=50)


def test_pixels_are_bytes_and_back() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 8, 32, 1).repeat(3, 3)
    assert from_pixels(every).shape == (1, 3, 8, 32)
    np.testing.assert_array_equal(to_pixels(from_pixels(every)), every)
    assert to_pixels(torch.tensor([-9.0, 9.0, 0.0])[:, None, None]).ravel().tolist() == [0, 255, 128]


@pytest.mark.parametrize("name", ["head.head.weight", "audio.head.head.weight"])
def test_results_that_are_no_numbers_are_said(random_checkpoint: Path, name: str) -> None:
    pipeline = HarmonyPipeline.from_file(random_checkpoint)
    weights = pipeline.transformer.get_parameter(name)
    weights.data[:] = float("nan")
    part = "sound" if name.startswith("audio") else "pictures"
    with pytest.raises(ValueError, match=f"The {part} came out as values that are not numbers; lower the scales"):
        pipeline(GenerateRequest(prompt="", steps=1, seconds=0.24, video_sync_scale=1, audio_sync_scale=1))


def test_settings_that_change_nothing_are_said(random_checkpoint: Path) -> None:
    pipeline = HarmonyPipeline.from_file(random_checkpoint)
    quick = {"prompt": "", "steps": 1, "seconds": 0.24}
    off = {"audio_sync_scale": 1, "video_text_scale": 1, "audio_text_scale": 1}
    asked = {"static_video": "grey", "negative_audio_prompt": "noise", "reference_seconds": 2}
    said = [note for note in pipeline(GenerateRequest(**quick, **off, **asked)).notes if "not used" in note]
    assert said == [
        "static_video 'grey' is not used: no sound is made, or audio_sync_scale is 1.",
        "negative_audio_prompt is not used: both text scales are 1.",
        "reference_seconds is not used: there is no reference.",
    ]
    asked.pop("reference_seconds")
    assert not any("not used" in note for note in pipeline(GenerateRequest(**quick, **asked)).notes)
