"""The trained autoencoders in the embedded checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import harmony_core
from harmony_core.autoencoders import TinyAudioVAE, TinyVideoVAE
from harmony_core.toyworld import HELD_OUT_SEED, render, sample_scene
from harmony_core.training.autoencoders import reconstruction_report

BUNDLE = Path(harmony_core.__file__).parent / "assets" / "harmony-tiny.safetensors"


def load(vae: torch.nn.Module, prefix: str) -> torch.nn.Module:
    with safe_open(BUNDLE, "pt") as file:
        state = {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118
    vae.load_state_dict(state)
    return vae.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def video_vae() -> TinyVideoVAE:
    return load(TinyVideoVAE(), "vae.")


@pytest.fixture(scope="module")
def audio_vae() -> TinyAudioVAE:
    return load(TinyAudioVAE(), "audio_vae.")


def test_silence_stays_silent(audio_vae):
    decoded = audio_vae.decode(audio_vae.encode(torch.zeros(1, 32000)))
    assert decoded.square().mean().sqrt() < 10 ** (-60 / 20)


def test_reconstructions_reach_the_bar(video_vae, audio_vae):
    clips = [
        render(sample_scene(np.random.default_rng(HELD_OUT_SEED + i), kind)) for i, kind in enumerate(("ball", "face"))
    ]
    videos, waveforms = np.stack([c.video for c in clips]), np.stack([c.audio for c in clips])
    report = reconstruction_report(video_vae, audio_vae, videos, waveforms)
    assert report["psnr"] > 30
    assert report["psnr_moving"] > 24
    assert report["mel_l1"] < 0.4


def test_an_onset_stays_within_10_ms(audio_vae):
    scene = sample_scene(np.random.default_rng(HELD_OUT_SEED), "ball")
    waveform = torch.from_numpy(render(scene).audio)[None]
    decoded = audio_vae.decode(audio_vae.encode(waveform))
    for time in scene.impact_times:
        start = max(int((time - 0.04) * 16000), 0)
        before, after = (x[0, start : start + 1600].abs() for x in (waveform, decoded))
        onsets = [(x > 0.3 * x.max()).nonzero()[0].item() / 16 for x in (before, after)]
        assert abs(onsets[1] - onsets[0]) <= 10
