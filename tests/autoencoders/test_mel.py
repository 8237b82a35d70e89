from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch

from harmony_core.autoencoders.mel import FLOOR, Spectrogram, mel_filterbank


@pytest.fixture(scope="module")
def spectrogram() -> Spectrogram:
    return Spectrogram(sample_rate=16000, num_mels=80, hop=160, window=640)


def sine(hz: float, amplitude: float = 0.5, num_samples: int = 16000) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * hz * torch.arange(num_samples) / 16000)[None]


def test_a_sine_reads_its_amplitude_at_its_bin(spectrogram):
    magnitude_BKT = spectrogram.stft(sine(1000)).abs()
    assert magnitude_BKT.shape == (1, 321, 100)
    assert magnitude_BKT[0, :, 50].argmax() == 1000 / 25
    assert magnitude_BKT[0, 40, 50].item() == pytest.approx(0.5, abs=1e-4)


def test_istft_inverts_stft(spectrogram):
    waveform_BN = torch.randn(2, 6400)
    torch.testing.assert_close(spectrogram.istft(spectrogram.stft(waveform_BN)), waveform_BN, atol=1e-4, rtol=0)


def test_frame_is_centred_between_its_hop_edges(spectrogram):
    waveform_BN = torch.zeros(1, 6400)
    waveform_BN[0, 10 * 160 + 80] = 1.0
    assert spectrogram.stft(waveform_BN).abs().sum(1).argmax() == 10


def test_silence_is_the_floor(spectrogram):
    assert torch.all(spectrogram.log_mel(torch.zeros(1, 1600)) == math.log(FLOOR))


def test_every_filter_passes_something():
    filters_MK = mel_filterbank(321, 80, 16000)
    assert filters_MK.shape == (80, 321)
    assert (filters_MK.sum(1) > 0).all()
    assert filters_MK.max() <= 1
    centres = (filters_MK * torch.arange(321)).sum(1) / filters_MK.sum(1)
    assert (centres.diff() >= 0).all()


def test_griffin_lim_rebuilds_magnitudes(spectrogram):
    waveform_BN = sine(440) + sine(1333, 0.2)
    target = spectrogram.stft(waveform_BN).abs()
    rebuilt = spectrogram.stft(spectrogram.griffin_lim(target)).abs()
    assert ((rebuilt - target).norm() / target.norm()).item() < 0.05


def test_griffin_lim_is_deterministic_and_rows_are_independent(spectrogram):
    spectrogram = deepcopy(spectrogram).double()  # each round amplifies how a processor's Fourier transform rounds
    magnitude_BKT = torch.rand(2, 321, 20, dtype=torch.float64)
    both = spectrogram.griffin_lim(magnitude_BKT)
    assert torch.equal(both, spectrogram.griffin_lim(magnitude_BKT))
    torch.testing.assert_close(both[1:], spectrogram.griffin_lim(magnitude_BKT[1:]), atol=1e-9, rtol=0)


def test_griffin_lim_keeps_silence(spectrogram):
    assert torch.equal(spectrogram.griffin_lim(torch.zeros(1, 321, 8)), torch.zeros(1, 1280))


def test_griffin_lim_keeps_an_onset(spectrogram):
    waveform_BN = torch.zeros(1, 8000)
    t = torch.arange(4000) / 16000
    waveform_BN[0, 4000:] = torch.exp(-20 * t) * torch.sin(2 * math.pi * 600 * t)
    rebuilt = spectrogram.griffin_lim(spectrogram.stft(waveform_BN).abs())
    onset = (rebuilt[0].abs() > 0.3 * rebuilt.abs().max()).nonzero()[0].item()
    assert abs(onset - 4000) <= 160
