"""BigVGAN, the vocoder of MMAudio's 16 kHz models and of Qwen2.5-Omni: mel to waveform.

Legend: B batch, C channels, M mel bands, L mel frames, N samples.

Written from the published method (BigVGAN, arXiv 2206.04658): transposed convolutions, and after each the mean of
several residual stacks whose periodic activations run at twice the rate, so that their harmonics do not alias.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FILTER_TAPS = 12
RATIO = 2  # oversampling of an activation

DEFAULT_CONFIG = {
    "num_mels": 80,
    "upsample_rates": [4, 4, 2, 2, 2, 2],
    "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4],
    "upsample_initial_channel": 1536,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
}


def anti_alias_filter() -> Tensor:
    """The low-pass filter [1, 1, 12] of both rate changes, where a file holds none: a Kaiser-windowed sinc."""
    half = FILTER_TAPS / 2
    # Kaiser's formulas (above 50 dB) for a transition of 0.6 of the rate
    attenuation = 2.285 * (half - 1) * math.pi * 4 * (0.6 / RATIO) + 7.95
    beta = 0.1102 * (attenuation - 8.7)
    window = torch.kaiser_window(FILTER_TAPS, periodic=False, beta=beta, dtype=torch.float64)
    times = torch.arange(FILTER_TAPS, dtype=torch.float64) - half + 0.5
    taps = window * torch.sinc(times / RATIO)
    return (taps / taps.sum()).float().reshape(1, 1, -1)


class SnakeBeta(nn.Module):
    """x + sin^2(alpha x) / beta per channel; both stored as logarithms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCN: Tensor) -> Tensor:
        alpha, beta = (value.exp()[:, None] for value in (self.alpha, self.beta))
        return x_BCN + torch.sin(alpha * x_BCN).square() / (beta + 1e-9)


class LowPass(nn.Module):
    """Holder of a filter under the published key name."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", torch.zeros(1, 1, FILTER_TAPS))


class Downsample(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lowpass = LowPass()

    def forward(self, x_BCN: Tensor) -> Tensor:
        """Half the rate, the same length of time."""
        channels = x_BCN.shape[1]
        padded = F.pad(x_BCN, (FILTER_TAPS // 2 - 1, FILTER_TAPS // 2), mode="replicate")
        return F.conv1d(padded, self.lowpass.filter.expand(channels, -1, -1), stride=RATIO, groups=channels)


class Upsample(LowPass):
    def forward(self, x_BCN: Tensor) -> Tensor:
        """Twice the rate, the same length of time."""
        channels, margin = x_BCN.shape[1], FILTER_TAPS // RATIO - 1
        padded = F.pad(x_BCN, (margin, margin), mode="replicate")
        wide = F.conv_transpose1d(padded, self.filter.expand(channels, -1, -1), stride=RATIO, groups=channels)
        cut = margin * RATIO + (FILTER_TAPS - RATIO) // 2
        return RATIO * wide[..., cut:-cut]


class AliasFreeActivation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = SnakeBeta(channels)
        self.upsample = Upsample()
        self.downsample = Downsample()

    def forward(self, x_BCN: Tensor) -> Tensor:
        return self.downsample(self.act(self.upsample(x_BCN)))


class ResidualStack(nn.Module):
    """Pairs of a dilated and a plain convolution, each after an activation."""

    def __init__(self, channels: int, kernel: int, dilations: list[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)
            for dilation in dilations
        )
        self.convs2 = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding=kernel // 2) for _ in dilations)
        self.activations = nn.ModuleList(AliasFreeActivation(channels) for _ in range(2 * len(dilations)))

    def forward(self, x_BCN: Tensor) -> Tensor:
        layers = zip(self.activations[::2], self.convs1, self.activations[1::2], self.convs2, strict=True)
        for before, dilated, between, plain in layers:
            x_BCN = x_BCN + plain(between(dilated(before(x_BCN))))
        return x_BCN


class Vocoder(nn.Module):
    """BigVGAN version 1 with SnakeBeta activations.

    Args: as in `DEFAULT_CONFIG`, which is the published 16 kHz model's (256 samples a mel frame).
        plain_end: clamped to -1..1, without a bias, in place of a tanh (Qwen2.5-Omni).
    """

    def __init__(
        self,
        num_mels: int,
        upsample_rates: list[int],
        upsample_kernel_sizes: list[int],
        upsample_initial_channel: int,
        resblock_kernel_sizes: list[int],
        resblock_dilation_sizes: list[list[int]],
        plain_end: bool = False,
    ) -> None:
        super().__init__()
        channels = upsample_initial_channel
        self.conv_pre = nn.Conv1d(num_mels, channels, 7, padding=3)
        ups: list[nn.Module] = []
        self.resblocks = nn.ModuleList()
        self.stacks = len(resblock_kernel_sizes)
        for rate, kernel in zip(upsample_rates, upsample_kernel_sizes, strict=True):
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2)
            ups.append(nn.Sequential(up))  # for the published key names
            channels //= 2
            for size, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes, strict=True):
                self.resblocks.append(ResidualStack(channels, size, dilations))
        self.ups = nn.ModuleList(ups)
        self.activation_post = AliasFreeActivation(channels)
        self.plain_end = plain_end
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=not plain_end)

    def forward(self, mel_BML: Tensor) -> Tensor:
        """Log10 mel (Qwen2.5-Omni: see `mel_codec.vocoder_scale`) to a waveform [B, N] in -1..1."""
        x_BCN = self.conv_pre(mel_BML)
        for level, up in enumerate(self.ups):
            x_BCN = up(x_BCN)
            stacks = self.resblocks[level * self.stacks : (level + 1) * self.stacks]
            x_BCN = sum(stack(x_BCN) for stack in stacks) / self.stacks
        x_BCN = self.conv_post(self.activation_post(x_BCN))
        return (x_BCN.clamp(-1, 1) if self.plain_end else torch.tanh(x_BCN)).squeeze(1)
