from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from harmony_core.autoencoders import TinyAudioVAE, TinyVideoVAE
from harmony_core.training.autoencoders import (
    AutoencoderTraining,
    reconstruction_report,
    train_audio_vae,
    train_video_vae,
)

CONFIG = AutoencoderTraining(video_steps=30, video_batch=8, audio_steps=60, audio_batch=2, audio_crop=5)


def small_video_vae() -> TinyVideoVAE:
    torch.manual_seed(0)
    return TinyVideoVAE(width=32, mid_width=32, fine_width=8, encoder_blocks=1, decoder_blocks=1)


def small_audio_vae() -> TinyAudioVAE:
    torch.manual_seed(0)
    return TinyAudioVAE(width=32, latent_width=32, blocks=1)


@pytest.fixture(scope="module")
def videos() -> np.ndarray:
    """Squares of one of two colours that move over a plain ground: [4, 5, 32, 32, 3]."""
    videos = np.full((4, 5, 32, 32, 3), 200, dtype=np.uint8)
    for clip in range(4):
        for frame in range(5):
            at = 2 + 4 * frame
            videos[clip, frame, at : at + 8, 8:16] = (220, 40, 40) if clip % 2 else (40, 40, 220)
    return videos


@pytest.fixture(scope="module")
def waveforms() -> np.ndarray:
    t = np.arange(640 * 10) / 16000
    return np.stack([0.3 * np.sin(2 * math.pi * hz * t) for hz in (300, 500, 900, 1500)]).astype(np.float32)


def test_video_training_lowers_the_loss_and_normalises(videos):
    losses = []
    vae = train_video_vae(CONFIG, videos, small_video_vae(), lambda *args: losses.append(args))
    assert [args[:3] for args in losses] == [("video", step, 30) for step in range(1, 31)]
    assert losses[-1][3] < 0.7 * losses[0][3]
    assert not vae.training
    pixels = torch.from_numpy(videos).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    latents = vae.encode(pixels)[:, :6]
    assert latents.mean((0, 2, 3, 4)).abs().max() < 0.3
    torch.testing.assert_close(latents.std((0, 2, 3, 4)), torch.ones(6), atol=0.3, rtol=0)


def test_audio_training_lowers_the_loss(waveforms):
    losses = []
    vae = train_audio_vae(CONFIG, waveforms, small_audio_vae(), lambda *args: losses.append(args[3]))
    assert len(losses) == 60
    assert losses[-1] < 0.8 * losses[0]
    latents = vae.encode(torch.from_numpy(waveforms))
    torch.testing.assert_close(latents.std((0, 2)), torch.ones(20), atol=1e-3, rtol=0)


def test_training_is_seeded(videos):
    config = AutoencoderTraining(video_steps=2, video_batch=2)
    first, second = (train_video_vae(config, videos, small_video_vae()).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_report_measures_what_it_says(videos, waveforms):
    report = reconstruction_report(small_video_vae().eval(), small_audio_vae().eval(), videos[:1], waveforms[:1])
    assert set(report) == {"psnr", "psnr_moving", "mel_l1", "spectrum_l1"}
    assert all(math.isfinite(value) for value in report.values())
    assert report["psnr"] < 20  # untrained


def test_report_of_a_decoder_that_sees_only_grey(waveforms):
    class Grey(TinyVideoVAE):
        def decode(self, latents_BCTHW: torch.Tensor) -> torch.Tensor:
            batch, _, num_latent_frames, height, width = latents_BCTHW.shape
            return torch.zeros(batch, 3, 4 * num_latent_frames - 3, 8 * height, 8 * width)

    flash = np.full((1, 5, 16, 16, 3), 255, dtype=np.uint8)
    flash[:, 1::2, :8] = 0
    report = reconstruction_report(Grey(), small_audio_vae().eval(), flash, waveforms[:1])
    assert report["psnr"] == pytest.approx(-10 * math.log10(0.25))
    assert report["psnr_moving"] == pytest.approx(-10 * math.log10(0.25))
