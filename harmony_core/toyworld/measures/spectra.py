"""Envelopes and spectra of sound, as the measures share them."""

from __future__ import annotations

from functools import cache

import numpy as np

from ...autoencoders.mel import mel_filterbank
from ..words import SAMPLE_RATE

ENVELOPE_RATE = 500  # values a second
N_FFT = 1024


def envelope(audio: np.ndarray, sample_rate: int, seconds: float = 0.024) -> np.ndarray:
    """RMS in a Hann window of `seconds`: float64 [samples / sample_rate * ENVELOPE_RATE], value i at i / 500 s."""
    width = round(seconds * sample_rate) | 1
    window = np.hanning(width + 2)[1:-1]
    power = np.convolve(np.asarray(audio, dtype=np.float64) ** 2, window / window.sum(), mode="same")
    at = np.arange(round(len(audio) / sample_rate * ENVELOPE_RATE)) * sample_rate // ENVELOPE_RATE
    return np.sqrt(power[at].clip(0))


def is_audible(audio: np.ndarray) -> bool:
    """Whether anything is louder than -54 dB."""
    return bool(envelope(audio, SAMPLE_RATE).max() > 2e-3)


def power_frames(audio: np.ndarray, hop: int = 160) -> np.ndarray:
    """Power spectra of centred Hann windows: float64 [frames, N_FFT // 2 + 1]."""
    padded = np.pad(np.asarray(audio, dtype=np.float64), N_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(N_FFT + 1)[:-1])) ** 2


@cache
def mel_filters(num_mels: int) -> np.ndarray:
    """Triangles evenly spaced in mel (HTK) for `power_frames` at 16 kHz: float64 [num_mels, N_FFT // 2 + 1]."""
    return mel_filterbank(N_FFT // 2 + 1, num_mels, SAMPLE_RATE).numpy()
