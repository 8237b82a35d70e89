"""What sounds: onsets and loudness as curves. Memory is bounded by the curves.

Shape suffixes: N samples, T points of a curve, K samples of a window.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CURVE_RATE = 200  # points a second of the curves: lags come in steps of 5 ms, refined by a parabola
ONSET_WINDOW_S = 0.016
LOUDNESS_WINDOW_S = 0.025
POINTS_AT_ONCE = 4096


def onset_strength(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Spectral flux: how much louder each frequency becomes, summed and squared, which favours the sudden.

    [N] -> [T] at `CURVE_RATE`, maximum 1.
    """
    size = max(16, round(ONSET_WINDOW_S * sample_rate))
    shape_K = np.hanning(size).astype(np.float32)
    last_K = None

    def rise(windows_TK: np.ndarray) -> np.ndarray:
        nonlocal last_K
        spectrum_TK = np.sqrt(np.abs(np.fft.rfft(windows_TK * shape_K, axis=1)))
        before = spectrum_TK[:1] if last_K is None else last_K
        last_K = spectrum_TK[-1:]
        return np.diff(spectrum_TK, axis=0, prepend=before).clip(min=0).sum(1) ** 2

    rise_T = _windowed(samples, sample_rate, size, rise)
    return rise_T / max(rise_T.max(), 1e-12)


def loudness(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Short-time RMS to the power 0.6 (Stevens' law), [N] -> [T] at `CURVE_RATE`, maximum 1."""
    size = round(LOUDNESS_WINDOW_S * sample_rate)
    loud_T = _windowed(samples, sample_rate, size, lambda windows_TK: np.sqrt((windows_TK**2).mean(1)) ** 0.6)
    return loud_T / max(loud_T.max(), 1e-12)


def smooth(curve_T: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean over `sigma` points, [T] -> [T]; the ends are means of what is there."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    inside_T = np.convolve(np.ones(len(curve_T)), kernel)
    return (np.convolve(curve_T, kernel) / inside_T)[reach : reach + len(curve_T)]


def _windowed(
    samples_N: np.ndarray, sample_rate: int, size: int, curve: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`curve` of windows [T,size] centred at T * sample_rate / CURVE_RATE, so many at a time."""
    count = max(1, len(samples_N) * CURVE_RATE // sample_rate)
    starts_T = np.round(np.arange(count) * sample_rate / CURVE_RATE).astype(int) + size - size // 2
    padded_N = np.pad(samples_N, size)
    parts = [
        curve(padded_N[starts_T[first : first + POINTS_AT_ONCE, None] + np.arange(size)])
        for first in range(0, count, POINTS_AT_ONCE)
    ]
    return np.concatenate(parts)
