"""Channels to one."""

from __future__ import annotations

import numpy as np
import pytest

from harmony_core.media import AudioClip, fit_audio
from harmony_core.media.mix import to_mono
from tests.media.files import tone

VOICE = tone(1.0, 16000)
SURROUND = ("FL", "FR", "FC", "LFE", "BL", "BR")


def clip(*channels: np.ndarray, names: tuple[str, ...] = ()) -> AudioClip:
    return AudioClip(np.stack(channels), 16000, "a.wav", channels=names)


@pytest.mark.parametrize(
    ("channel", "weight"), [("FL", 0.5**0.5), ("FR", 0.5**0.5), ("FC", 1), ("LFE", 0), ("BL", 0.5), ("BR", 0.5)]
)
@pytest.mark.parametrize("named", [True, False])
def test_surround_is_mixed_by_standard_weights(channel: str, weight: float, named: bool) -> None:
    silent = np.zeros_like(VOICE)
    parts = [VOICE if name == channel else silent for name in SURROUND]
    mixed, notes = to_mono(clip(*parts, names=SURROUND if named else ()))
    np.testing.assert_allclose(mixed, weight * VOICE, atol=1e-6)
    assert notes == ()


def test_stereo_and_unknown_channels_are_averaged() -> None:
    np.testing.assert_allclose(to_mono(clip(VOICE, 0 * VOICE))[0], VOICE / 2, atol=1e-6)
    np.testing.assert_allclose(to_mono(clip(VOICE, VOICE, VOICE))[0], VOICE, atol=1e-6)
    np.testing.assert_allclose(to_mono(clip(VOICE, VOICE, VOICE, names=("FL", "FR", "LFE")))[0], VOICE, atol=1e-6)


def test_a_mix_that_cancels_is_said_and_not_silent() -> None:
    samples, notes = fit_audio(clip(VOICE, -VOICE, names=("FL", "FR")), 16000, 16000)
    np.testing.assert_allclose(samples, VOICE, atol=1e-6)
    assert notes == (
        "a.wav: 16000 Hz stereo -> 16000 Hz mono",
        "a.wav: its channels cancel each other in mono; channel FL is taken",
    )
    _, notes = to_mono(clip(VOICE, -0.95 * VOICE))
    assert notes == ("a.wav: its channels cancel each other in mono; channel 1 is taken",)
    noise = np.random.default_rng(0).standard_normal((2, 16000)).astype(np.float32) * 0.1
    assert to_mono(clip(*noise))[1] == (), "independent channels do not cancel"


def test_a_mix_above_full_scale_is_lowered() -> None:
    mixed, notes = to_mono(clip(*[VOICE * 2] * 6, names=SURROUND))
    assert np.abs(mixed).max() == pytest.approx(1)
    assert notes == ("a.wav: its channels add up to 3.41 of full scale, lowered to 1",)


@pytest.mark.parametrize(("level", "said"), [(1e-2, ()), (1e-3, "peak -66 dB"), (0, "every sample is 0")])
def test_a_given_sound_that_is_near_silent_is_said(level: float, said: str | tuple) -> None:
    notes = fit_audio(clip(VOICE * level), 16000, 16000)[1]
    assert notes == (f"a.wav: near silent ({said})",) if said else notes == ()
