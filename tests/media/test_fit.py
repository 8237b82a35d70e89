"""Fitting clips to the lengths, rates and sizes of a model's clip."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from harmony_core.geometry import ClipGeometry
from harmony_core.media import (
    AudioClip,
    MediaError,
    VideoClip,
    fit_audio,
    fit_channels,
    fit_image,
    fit_reference_audio,
    fit_video,
    resample,
)
from harmony_core.presets import preset
from tests.media.files import order, shades, tone


def tiny_geometry(seconds: float) -> ClipGeometry:
    return ClipGeometry.from_seconds(seconds, "12.5", 64, 64, preset("harmony-tiny"))


def test_fit_video_resamples_crops_and_holds_the_last_frame() -> None:
    clip = VideoClip(np.stack(shades(20, 90, 160)), Fraction(25), "a.mp4")
    frames, notes = fit_video(clip, tiny_geometry(2.0))
    assert frames.shape == (25, 64, 64, 3)
    assert order(frames) == [min(2 * k, 19) for k in range(25)]
    said = " | ".join(notes)
    for part in (
        "a.mp4: 25 fps -> 12.5 fps",
        "0.80 s continued with its last frame to 2.00 s",
        "160x90 -> 64x64, cropped",
    ):
        assert part in said


def test_fit_video_leaves_a_fitting_clip_alone() -> None:
    clip = VideoClip(np.random.default_rng(0).integers(0, 255, (25, 64, 64, 3), np.uint8), Fraction(25, 2))
    frames, notes = fit_video(clip, tiny_geometry(2.0))
    np.testing.assert_array_equal(frames, clip.frames)
    assert notes == ()


def test_fit_video_of_one_frame_is_a_still() -> None:
    frames, _ = fit_video(VideoClip(np.stack(shades(1)), Fraction(1)), tiny_geometry(1.0))
    assert frames.shape == (13, 64, 64, 3)
    assert len(np.unique(frames)) == 1


def test_fit_image_covers_and_crops_the_centre() -> None:
    picture = np.zeros((40, 120, 3), np.uint8)
    picture[:, 40:80] = 200
    fitted, notes = fit_image(picture, 64, 64, "a.png")
    assert fitted.shape == (64, 64, 3)
    assert fitted[:, 2:-2].min() > 190
    assert notes == ("a.png: 120x40 -> 64x64, cropped at the centre",)
    assert fit_image(fitted, 64, 64)[1] == ()


def test_fit_audio_mixes_resamples_pads_and_cuts() -> None:
    stereo = AudioClip(np.stack([tone(3.2, 44100), 0 * tone(3.2, 44100)]), 44100, "voice.mp3")
    samples, notes = fit_audio(stereo, 32000, 16000)
    assert samples.shape == (32000,)
    np.testing.assert_allclose(samples[2000:-2000], 0.5 * tone(2.0, 16000)[2000:-2000], atol=2e-3)
    assert notes == ("voice.mp3: 44100 Hz stereo -> 16000 Hz mono", "voice.mp3: 3.20 s cut to 2.00 s")
    samples, notes = fit_audio(AudioClip(tone(1.0, 16000)[None], 16000, "b.wav"), 32000, 16000)
    np.testing.assert_array_equal(samples[16000:], 0)
    assert notes == ("b.wav: 1.00 s continued with silence to 2.00 s",)


def test_fit_channels_keeps_them_apart() -> None:
    sides = np.stack([tone(1.0, 48000), 0 * tone(1.0, 48000)])
    samples, notes = fit_channels(AudioClip(sides, 48000, "a.wav"), 36000, 24000)
    assert samples.shape == (2, 36000)
    np.testing.assert_allclose(samples[0, 2000:22000], tone(1.0, 24000)[2000:22000], atol=2e-3)
    assert not samples[1].any()
    assert notes == ("a.wav: 48000 Hz -> 24000 Hz", "a.wav: 1.00 s continued with silence to 1.50 s")
    assert fit_channels(AudioClip(0 * sides, 24000, "b.wav"), 48000, 24000)[1] == (
        "b.wav: near silent (every sample is 0)",
    )


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (8000, 16000), (22254, 16000), (47999, 16000)])
def test_resampling_is_exact_in_time_and_level(source: int, target: int) -> None:
    window = np.hanning(source).astype(np.float32)
    resampled = resample(tone(1.0, source) * window, source, target)
    expected = tone(1.0, target) * np.interp(np.arange(target) / target, np.arange(source) / source, window)
    np.testing.assert_allclose(resampled, expected, atol=1e-3)


def test_half_rates_show_each_frame_equally_long() -> None:
    clip = VideoClip(np.stack(shades(20)), Fraction(25, 4))
    assert order(fit_video(clip, tiny_geometry(1.0))[0]) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]


def test_a_reference_is_what_there_is_of_it() -> None:
    """No silence joins a voice."""
    voice = AudioClip(tone(0.5, 44100)[None], 44100, "voice.wav")
    samples, notes = fit_reference_audio(voice, 10.0, 640, 16000)
    assert len(samples) == 12 * 640  # 0.48 of the half second: whole latents
    assert np.abs(samples[-640:]).max() > 0.4
    assert notes[-1] == "voice.wav: 0.48 s are there, not 10 s"
    samples, notes = fit_reference_audio(voice, 0.3, 640, 16000)
    assert len(samples) == 7 * 640
    assert not any("are there" in note for note in notes)
    with pytest.raises(
        MediaError, match=r"voice\.wav is shorter than one audio latent \(0\.04 s\); take at least 0\.3 s"
    ):
        fit_reference_audio(AudioClip(tone(0.03, 16000)[None], 16000, "voice.wav"), 1.0, 640, 16000)
    with pytest.raises(MediaError, match=r"reference_seconds is 0\.01, shorter than one audio latent"):
        fit_reference_audio(voice, 0.01, 640, 16000)
