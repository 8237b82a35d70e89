"""Spectrograms and their inversion, deterministic and batch-safe.

Legend: B batch, N samples, T spectrogram frames (N / hop), K frequency bins, M mel bands, W window samples.

Frame t covers the samples around its centre (t + 1/2) * hop, so N samples give exactly N / hop frames and r frames
in a row make a latent whose centre is (j + 1/2) * r * hop, where geometry puts it. Magnitudes are amplitudes: a sine
of amplitude A reads A at its bin, and 1e-4 (-80 dB) is the floor that counts as silence.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOOR = 1e-4
MAX_HZ_SCALE = 2595.0


def mel_filterbank(num_bins: int, num_mels: int, sample_rate: int) -> Tensor:
    """Triangular filters, evenly spaced on the mel scale (HTK) from 0 Hz to Nyquist, peak 1: float64 [M, K]."""
    top_mel = MAX_HZ_SCALE * math.log10(1 + sample_rate / 2 / 700)
    edges_hz = 700 * (10 ** (torch.linspace(0, top_mel, num_mels + 2, dtype=torch.float64) / MAX_HZ_SCALE) - 1)
    bins_hz = torch.linspace(0, sample_rate / 2, num_bins, dtype=torch.float64)
    rising = (bins_hz - edges_hz[:-2, None]) / (edges_hz[1:-1] - edges_hz[:-2])[:, None]
    falling = (edges_hz[2:, None] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


class Spectrogram(nn.Module):
    """Short-time Fourier analysis, log-mel and inversion for one frame size.

    Args:
        sample_rate: in Hz.
        num_mels: mel bands.
        hop: samples from frame to frame.
        window: samples under the Hann window; also the FFT length.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, num_mels: int, hop: int, window: int) -> None:
        super().__init__()
        self.hop, self.window_size, self.num_bins = hop, window, window // 2 + 1
        filters = mel_filterbank(self.num_bins, num_mels, sample_rate).float()
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def stft(self, waveform_BN: Tensor) -> Tensor:
        """Complex amplitudes [B, K, T], T = N / hop. N must be a multiple of hop."""
        margin = (self.window_size - self.hop) // 2
        frames_BTW = F.pad(waveform_BN, (margin, margin)).unfold(-1, self.window_size, self.hop)
        scale = 2 / self.window.sum()
        return torch.fft.rfft(frames_BTW * (self.window * scale)).transpose(1, 2)

    forward = stft

    def istft(self, spectrum_BKT: Tensor) -> Tensor:
        """Least-squares inverse of `stft`: [B, T * hop]."""
        frames_BWT = torch.fft.irfft(spectrum_BKT * (self.window.sum() / 2), n=self.window_size, dim=1)
        margin, num_frames = (self.window_size - self.hop) // 2, spectrum_BKT.shape[-1]
        summed = self._overlap_add(frames_BWT * self.window[:, None])
        weight = self._overlap_add((self.window**2)[None, :, None].expand(1, -1, num_frames))
        return (summed / weight.clamp(min=1e-3))[:, margin : margin + num_frames * self.hop]

    def _overlap_add(self, frames_BWT: Tensor) -> Tensor:
        length = (frames_BWT.shape[-1] - 1) * self.hop + self.window_size
        out = F.fold(frames_BWT, (1, length), (1, self.window_size), stride=(1, self.hop))
        return out[:, 0, 0]

    def log_magnitude(self, waveform_BN: Tensor) -> Tensor:
        """Natural log of amplitude, floored: [B, K, T]."""
        return self.stft(waveform_BN).abs().clamp(min=FLOOR).log()

    def magnitude_to_log_mel(self, magnitude_BKT: Tensor) -> Tensor:
        """Natural log of the root of filtered power, floored: [B, M, T]."""
        return 0.5 * (self.filters @ magnitude_BKT**2).clamp(min=FLOOR**2).log()

    def log_mel(self, waveform_BN: Tensor) -> Tensor:
        """[B, M, T] of a waveform [B, N]."""
        return self.magnitude_to_log_mel(self.stft(waveform_BN).abs())

    def griffin_lim(self, magnitude_BKT: Tensor, iterations: int = 32, momentum: float = 0.9) -> Tensor:
        """Waveform [B, T * hop] whose spectrogram is close to `magnitude` (fast Griffin-Lim).

        The initial phase of each bin advances by the frequency of the spectral peak it belongs to, so nothing is
        random and each row depends on itself alone.
        """
        phase_BKT = self.peak_phase(magnitude_BKT)
        estimate_BKT = previous_BKT = torch.polar(magnitude_BKT, phase_BKT)
        for _ in range(iterations):
            rebuilt_BKT = self(self.istft(estimate_BKT))  # as a module, so that its hooks see every round
            ahead_BKT = rebuilt_BKT + momentum * (rebuilt_BKT - previous_BKT)
            previous_BKT = rebuilt_BKT
            estimate_BKT = magnitude_BKT * ahead_BKT / ahead_BKT.abs().clamp(min=1e-12)
        return self.istft(estimate_BKT)

    def peak_phase(self, magnitude_BKT: Tensor) -> Tensor:
        """Phases [B, K, T] of sines that sit at the peaks of each frame and run on from frame to frame."""
        level_BKT = magnitude_BKT.clamp(min=FLOOR).log()
        below, here, above = level_BKT[:, :-2], level_BKT[:, 1:-1], level_BKT[:, 2:]
        is_peak = F.pad((here >= below) & (here > above), (0, 0, 1, 1))
        # Vertex of the parabola through a peak and its two neighbours, in bins.
        vertex = 0.5 * (below - above) / (below - 2 * here + above).clamp(max=-1e-6)
        bins = torch.arange(self.num_bins, device=magnitude_BKT.device)[None, :, None].expand_as(is_peak)
        frequency_BKT = bins + F.pad(vertex, (0, 0, 1, 1)) * is_peak
        lower = torch.where(is_peak, bins, -self.num_bins).cummax(1).values
        upper = torch.where(is_peak, bins, 2 * self.num_bins).flip(1).cummin(1).values.flip(1)
        nearest = torch.where(bins - lower <= upper - bins, lower, upper)
        own_BKT = frequency_BKT.gather(1, nearest.clamp(0, self.num_bins - 1))
        step_BKT = 2 * math.pi * self.hop / self.window_size * own_BKT
        # A window starts before its centre: neighbours of a peak alternate in sign.
        return step_BKT.cumsum(-1) + math.pi * (bins % 2)
