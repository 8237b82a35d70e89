"""The pipeline: lengths, tasks, determinism, batches, and errors."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from harmony_core.media import AudioClip, VideoClip
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline

STEPS = 2


@pytest.fixture(scope="module")
def pipeline(random_checkpoint: Path) -> HarmonyPipeline:
    """Random outputs too: a zero-initialised head would make every clip the same."""
    built = HarmonyPipeline.from_file(random_checkpoint)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in built.transformer.named_parameters():
        if ".o." in name or "head.head" in name:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return built


def request(**changes) -> GenerateRequest:
    return GenerateRequest(**({"prompt": "a blue ball bounces on metal", "steps": STEPS} | changes))


def tone(seconds: float, rate: int = 44100, channels: int = 2) -> AudioClip:
    wave = np.sin(np.arange(round(seconds * rate)) * 0.05).astype(np.float32) * 0.3
    return AudioClip(np.stack([wave] * channels), rate, "tone.wav")


def stripes(frames: int, fps: int = 30, size: int = 48) -> VideoClip:
    pictures = np.zeros((frames, size, size, 3), np.uint8)
    for index, picture in enumerate(pictures):
        picture[:, index % size :: 8] = 200
    return VideoClip(pictures, Fraction(fps), "stripes.mp4")


@pytest.mark.parametrize(("seconds", "fps"), [(None, None), (1.0, None), (0.9, 10.0), (0.08, None), (1.5, 24.0)])
def test_both_streams_are_exactly_as_long_as_asked(pipeline: HarmonyPipeline, seconds, fps):
    clip = pipeline(request(seconds=seconds, fps=fps))
    expected = int((seconds or 2.0) * (fps or 12.5) + 0.5)  # ties go up
    assert len(clip.frames) == expected
    assert clip.samples.shape[1] == round(expected / Fraction(str(fps or 12.5)) * 16000)
    if (expected - 1) % 4:
        assert any("the last" in note for note in clip.notes)
    if expected != (seconds or 2.0) * (fps or 12.5):
        assert f"1 s at 12.5 fps is 1.04 s: {expected} whole frames." in clip.notes


def test_same_seed_same_bytes_and_another_seed_another_clip(pipeline: HarmonyPipeline):
    one, again, other = (pipeline(request(seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(one.latents_video, again.latents_video)
    assert torch.equal(one.latents_audio, again.latents_audio)
    assert np.array_equal(one.frames, again.frames)
    assert np.array_equal(one.samples, again.samples)
    assert not torch.equal(one.latents_audio, other.latents_audio)


def test_a_batch_gives_each_clip_as_alone(pipeline: HarmonyPipeline):
    requests = [request(seed=1), request(seed=2, prompt="a red ball on wood", audio_prompt="a ball hits wood")]
    for alone, together in zip([pipeline(each) for each in requests], pipeline.batch(requests), strict=True):
        torch.testing.assert_close(together.latents_video, alone.latents_video, atol=1e-4, rtol=0)
        torch.testing.assert_close(together.latents_audio, alone.latents_audio, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="differ in steps"):
        pipeline.batch([request(), request(steps=3)])


def test_each_row_of_a_batch_has_its_own_estimated_still(pipeline: HarmonyPipeline):
    requests = [request(seed=seed, static_video="estimate", seconds=0.4) for seed in (1, 2)]
    for alone, together in zip([pipeline(each) for each in requests], pipeline.batch(requests), strict=True):
        torch.testing.assert_close(together.latents_audio, alone.latents_audio, atol=1e-4, rtol=0)


def test_given_audio_is_kept_and_its_length_is_the_clips(pipeline: HarmonyPipeline):
    clip = pipeline(request(audio=tone(1.2), video_text_scale=1.0))
    assert len(clip.frames) == 15
    assert "44100 Hz stereo -> 16000 Hz mono" in " ".join(clip.notes)
    assert clip.passes_per_step == 2, "joint and mute audio; nothing guides a given sound"
    other = pipeline(request(audio=tone(1.2), seed=9))
    assert torch.equal(clip.latents_audio, other.latents_audio)
    assert not torch.equal(clip.latents_video, other.latents_video)


def test_given_video_is_kept(pipeline: HarmonyPipeline):
    clip = pipeline(request(video=stripes(45)))
    assert len(clip.frames) == 19
    assert clip.passes_per_step == 3  # joint, static video, no text; silence would only guide the video
    other = pipeline(request(video=stripes(45), seed=9))
    assert torch.equal(clip.latents_video, other.latents_video)
    assert not torch.equal(clip.latents_audio, other.latents_audio)


def test_first_frame_is_kept(pipeline: HarmonyPipeline):
    image = np.full((90, 120, 3), 120, np.uint8)
    clip = pipeline(request(image=image))
    expected = pipeline.encode_video(np.full((1, 64, 64, 3), 120, np.uint8))
    torch.testing.assert_close(clip.latents_video[:, :, :1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("static_video", ["grey", "estimate", "image"])
def test_static_videos(pipeline: HarmonyPipeline, static_video: str):
    image = np.full((64, 64, 3), 200, np.uint8)
    clip = pipeline(request(image=image, static_video=static_video))
    auto = pipeline(request(image=image))
    same = torch.equal(clip.latents_audio, auto.latents_audio)
    assert same == (static_video == "image")


def test_reference_audio_changes_the_sound(pipeline: HarmonyPipeline):
    plain, voiced = pipeline(request()), pipeline(request(reference_audio=tone(0.6)))
    own = pipeline(request(reference_audio=tone(0.6), reference_seconds=pipeline.config.reference_seconds))
    assert torch.equal(voiced.latents_audio, own.latents_audio)
    assert not torch.equal(plain.latents_audio, voiced.latents_audio)


def test_what_the_checkpoint_does_not_know_is_said(pipeline: HarmonyPipeline):
    clip = pipeline(request(prompt="a blue zebra " + "very " * 2000, transcript="hello 5"))
    said = " ".join(clip.notes)
    assert "zebra" in said
    assert "reads the first 20" in said
    assert "The transcript's 5 is left out" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"transcript": "a" * 25}, r"25 tokens.*takes 24"),
        ({"width": 60}, r"60x64 must be multiples of 16.*64x64"),
        ({"seconds": 0.01}, "less than one frame"),
        ({"fps": -1}, "fps is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"solver": "rk45"}, "rk45"),
        ({"reference_audio": tone(0.5), "reference_seconds": 0.01}, "reference_seconds is 0.01"),
    ],
)
def test_bad_requests_name_the_value_and_the_fix(pipeline: HarmonyPipeline, changes: dict, words: str):
    with pytest.raises(ValueError, match=words):
        pipeline(request(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"video": stripes(5), "audio": tone(1)}, "nothing is left to generate"),
        ({"static_video": "image"}, "no image is given"),
        ({"static_video": "white"}, r"'white'.*auto, grey, image, estimate"),
    ],
)
def test_contradictions_are_errors_when_the_request_is_made(changes: dict, words: str):
    with pytest.raises(ValueError, match=words):
        request(**changes)


@pytest.mark.parametrize("name", ["shift", "video_sync_scale", "audio_text_scale", "video_reference_scale", "seconds"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_numbers_are_finite(name: str, value: float):
    with pytest.raises(ValueError, match=rf"^{name} is {value}, but must be a number from"):
        request(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("fps", 1e6), ("seconds", 3601), ("width", 8208), ("height", -16), ("seed", 2**64)]
)
def test_numbers_beyond_any_use_are_errors(name: str, value: float):
    with pytest.raises(ValueError, match=f"{name} is {value}, but must be a number from"):
        request(**{name: value})


def test_a_rate_that_no_file_can_state_is_an_error():
    assert request(fps=23.976024).fps == 23.976024
    with pytest.raises(ValueError, match=r"fps is 12\.34567890123, finer than .* round it to 6 decimals"):
        request(fps=12.34567890123)
