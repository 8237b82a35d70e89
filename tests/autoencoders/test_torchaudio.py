"""Our mel filters, spectra and resampling beside torchaudio's, which the package itself does without."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from harmony_core.autoencoders.audio import FFT_SIZE, HOP, MelConverter, slaney_filterbank
from harmony_core.autoencoders.mel import Spectrogram, mel_filterbank
from harmony_core.media import resample
from harmony_core.toyworld.measures.spectra import N_FFT, mel_filters, power_frames


@pytest.fixture(scope="module", autouse=True)
def functional():
    """torchaudio.functional; a skip that says why where it cannot be loaded."""
    try:
        import torchaudio.functional
    except Exception as error:  # not there, or built for another torch: an OSError or a RuntimeError
        reason = f"torchaudio cannot be loaded, so mel filters, spectra and resampling go UNCHECKED: {error!r}"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    return torchaudio.functional


@pytest.mark.parametrize(
    ("num_bins", "num_mels", "sample_rate"), [(321, 80, 16000), (513, 64, 16000), (257, 40, 22050)]
)
def test_htk_mel_filters(functional, num_bins: int, num_mels: int, sample_rate: int) -> None:
    theirs_KM = functional.melscale_fbanks(num_bins, 0.0, sample_rate / 2, num_mels, sample_rate, None, "htk")
    ours_MK = mel_filterbank(num_bins, num_mels, sample_rate)
    torch.testing.assert_close(ours_MK.float(), theirs_KM.T, atol=2e-4, rtol=0)  # theirs are computed in float32
    assert ours_MK.max() > 0.9


def test_slaney_mel_filters(functional) -> None:
    theirs_KM = functional.melscale_fbanks(FFT_SIZE // 2 + 1, 0.0, 8000.0, 80, 16000, "slaney", "slaney")
    ours_MK = slaney_filterbank(80, FFT_SIZE, 16000, 8000.0)
    torch.testing.assert_close(ours_MK, theirs_KM.T, atol=1e-6, rtol=0)
    assert ours_MK.max() > 0.02


def test_the_tiny_autoencoder_s_spectrogram(functional) -> None:
    """The same magnitudes, frame for frame: ours are centred between hops, and scaled to amplitudes."""
    ours, waveform = Spectrogram(sample_rate=16000, num_mels=80, hop=160, window=640), torch.randn(2, 6400)
    margin, window = (640 - 160) // 2, torch.hann_window(640)
    padded = torch.nn.functional.pad(waveform, (margin, margin))
    theirs = functional.spectrogram(padded, 0, window, 640, 160, 640, 1.0, False, center=False)
    found = ours.stft(waveform).abs()
    assert found.shape == theirs.shape == (2, 321, 40)
    torch.testing.assert_close(found, theirs * 2 / window.sum(), atol=1e-6, rtol=1e-5)


def test_mmaudio_s_log_mel(functional) -> None:
    waveform = 0.3 * torch.randn(1, 8192).clamp(-3, 3)
    margin = (FFT_SIZE - HOP) // 2
    padded = torch.nn.functional.pad(waveform[:, None], (margin, margin), mode="reflect")[:, 0]
    window = torch.hann_window(FFT_SIZE)
    power = functional.spectrogram(padded, 0, window, FFT_SIZE, HOP, FFT_SIZE, 2.0, False, center=False)
    filters_KM = functional.melscale_fbanks(FFT_SIZE // 2 + 1, 0.0, 8000.0, 80, 16000, "slaney", "slaney")
    expected = (filters_KM.T @ (power + 1e-9).sqrt()).clamp(min=1e-5).log10()
    torch.testing.assert_close(MelConverter(80)(waveform), expected, atol=1e-4, rtol=0)


def test_the_measures_power_and_mel(functional) -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 4000)
    waveform, window = torch.from_numpy(audio)[None], torch.hann_window(N_FFT, dtype=torch.float64)
    padded = torch.nn.functional.pad(waveform, (N_FFT // 2, N_FFT // 2))
    theirs = functional.spectrogram(padded, 0, window, N_FFT, 160, N_FFT, 2.0, False, center=False)[0].T.numpy()
    np.testing.assert_allclose(power_frames(audio), theirs, rtol=1e-6, atol=1e-9)
    filters_KM = functional.melscale_fbanks(N_FFT // 2 + 1, 0.0, 8000.0, 64, 16000, None, "htk").double().numpy()
    np.testing.assert_allclose(power_frames(audio) @ mel_filters(64).T, theirs @ filters_KM, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (48000, 16000), (16000, 24000), (8000, 16000)])
def test_resampling(functional, source: int, target: int) -> None:
    """Tones that both rates can hold, away from the ends, where the filters meet silence."""
    t = np.arange(source) / source
    sound = sum(0.2 * np.sin(2 * np.pi * hz * t + hz) for hz in (97.0, 440.0, 1310.0, 2900.0)).astype(np.float32)
    ours = resample(sound, source, target)
    theirs = functional.resample(torch.from_numpy(sound), source, target, lowpass_filter_width=64).numpy()
    inside = slice(target // 20, -target // 20)
    assert len(ours) == len(theirs) == target
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=2e-3)
    assert np.abs(ours[inside]).max() > 0.4
