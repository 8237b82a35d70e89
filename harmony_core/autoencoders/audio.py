"""MMAudio's 16 kHz audio autoencoder: waveform to mel to latents, and back through a vocoder.

Legend: B batch, C channels, M mel bands, L mel frames, T latents (2 mel frames each), N samples, K frequency bins.

Written from the published methods: MMAudio (arXiv 2412.15322), and the magnitude-preserving layers of EDM2
(arXiv 2312.02696), in which a convolution's weight has unit norm per filter, divided by the root of its fan-in.
Published checkpoints hold weights before that; they are folded once, on loading (`fold_convolutions`).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .interface import AudioAutoencoder
from .lengths import check_num_samples
from .vocoder import DEFAULT_CONFIG as VOCODER_CONFIG
from .vocoder import Vocoder

SAMPLE_RATE, FFT_SIZE, HOP = 16000, 1024, 256
MELS_PER_LATENT = 2
MEL_FLOOR = 1e-5  # silence is a log10 mel of -5 everywhere
CHANNEL_MULTIPLIERS = (1, 2, 4)
ENCODER_BLOCKS, DECODER_BLOCKS = 2, 3
RESIDUAL_SHARE = 0.3
SILU_RMS = 0.596  # of SiLU on a unit normal
ACTIVATION_LIMIT = 256.0
NORM_EPS = 1e-4


def slaney_filterbank(num_mels: int, fft_size: int, sample_rate: int, top_hz: float) -> Tensor:
    """Triangles of equal area, evenly spaced on Slaney's mel scale from 0 Hz: [M, K], float32."""
    step, knee_hz, log_step = 200 / 3, 1000.0, math.log(6.4) / 27

    def to_mel(hz: float) -> float:
        return hz / step if hz < knee_hz else knee_hz / step + math.log(hz / knee_hz) / log_step

    mels = torch.linspace(0, to_mel(top_hz), num_mels + 2, dtype=torch.float64)
    above = knee_hz * torch.exp(log_step * (mels - knee_hz / step))
    edges = torch.where(mels < knee_hz / step, mels * step, above)
    bins = torch.linspace(0, sample_rate / 2, fft_size // 2 + 1, dtype=torch.float64)
    low, centre, high = (edges[start : start + num_mels, None] for start in range(3))
    triangles = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp(min=0)
    return (triangles * 2 / (high - low)).float()


class MelConverter(nn.Module):
    """Log10 mel spectrogram. Its two buffers have the names that merged files give them."""

    mel_basis: Tensor
    hann_window: Tensor

    def __init__(
        self, num_mels: int, sample_rate: int = SAMPLE_RATE, hop: int = HOP, top_hz: float = SAMPLE_RATE / 2
    ) -> None:
        super().__init__()
        self.hop = hop
        self.register_buffer("mel_basis", slaney_filterbank(num_mels, FFT_SIZE, sample_rate, top_hz))
        self.register_buffer("hann_window", torch.hann_window(FFT_SIZE))

    def forward(self, waveform_BN: Tensor) -> Tensor:
        """[B, M, floor(N / hop)]."""
        margin = (FFT_SIZE - self.hop) // 2
        waveform_BN = waveform_BN.to(self.hann_window.dtype).clamp(-1, 1)
        padded = F.pad(waveform_BN[:, None], (margin, margin), mode="reflect")[:, 0]
        spectrum = torch.stft(padded, FFT_SIZE, self.hop, window=self.hann_window, center=False, return_complex=True)
        magnitude = (torch.view_as_real(spectrum).square().sum(-1) + 1e-9).sqrt()
        return (self.mel_basis @ magnitude).clamp(min=MEL_FLOOR).log10()


def unit_magnitude(x: Tensor, dim: int) -> Tensor:
    """x over its root mean square along `dim`."""
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=torch.float32)
    return x / (NORM_EPS + norm / math.sqrt(x.shape[dim])).to(x.dtype)


def silu(x: Tensor) -> Tensor:
    return F.silu(x) / SILU_RMS


def blend(x: Tensor, y: Tensor) -> Tensor:
    """Weighted sum that keeps the variance of two independent unit inputs."""
    share = RESIDUAL_SHARE
    return torch.lerp(x, y, share) / math.sqrt((1 - share) ** 2 + share**2)


def limit(x: Tensor) -> Tensor:
    return x.clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)


def conv(channels_in: int, channels_out: int, kernel: int) -> nn.Conv1d:
    return nn.Conv1d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(channels_in, channels_out, 3), conv(channels_out, channels_out, 3)
        if channels_in != channels_out:
            self.nin_shortcut = conv(channels_in, channels_out, 1)

    def forward(self, x_BCL: Tensor) -> Tensor:
        x_BCL = unit_magnitude(x_BCL, dim=1)
        y_BCL = self.conv2(silu(self.conv1(silu(x_BCL))))
        return blend(self.nin_shortcut(x_BCL) if hasattr(self, "nin_shortcut") else x_BCL, y_BCL)


class AttentionBlock(nn.Module):
    """One head over all positions; q, k and v interleaved channel by channel, each of unit magnitude."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv, self.proj_out = conv(channels, 3 * channels, 1), conv(channels, channels, 1)

    def forward(self, x_BCL: Tensor) -> Tensor:
        qkv = unit_magnitude(self.qkv(x_BCL).unflatten(1, (-1, 3)), dim=1)
        q_BLC, k_BLC, v_BLC = (part.transpose(1, 2).contiguous() for part in qkv.unbind(2))
        y_BLC = F.scaled_dot_product_attention(q_BLC[:, None], k_BLC[:, None], v_BLC[:, None])[:, 0]
        return blend(x_BCL, self.proj_out(y_BLC.transpose(1, 2)))


class Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1, self.attn_1 = ResidualBlock(channels, channels), AttentionBlock(channels)
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x_BCL: Tensor) -> Tensor:
        return limit(self.block_2(self.attn_1(self.block_1(x_BCL))))


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(channels, channels, 1), conv(channels, channels, 1)

    def forward(self, x_BCL: Tensor) -> Tensor:
        return self.conv2(F.avg_pool1d(self.conv1(x_BCL), 2))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(channels, channels, 3)

    def forward(self, x_BCL: Tensor) -> Tensor:
        return self.conv(x_BCL.repeat_interleave(2, dim=2))


class Level(nn.Module):
    """Residual blocks at one width, then a change of rate if this level has one."""

    def __init__(self, channels_in: int, channels_out: int, blocks: int) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * blocks
        self.block = nn.ModuleList(ResidualBlock(*pair) for pair in pairwise(widths))

    def forward(self, x_BCL: Tensor) -> Tensor:
        for block in self.block:
            x_BCL = limit(block(x_BCL))
        for name in ("downsample", "upsample"):
            if hasattr(self, name):
                x_BCL = getattr(self, name)(x_BCL)
        return x_BCL


class Encoder(nn.Module):
    """Normalised mel to mean and log-variance [B, 2 C, L / 2]; the rate halves after the first level."""

    def __init__(self, num_mels: int, width: int, channels: int) -> None:
        super().__init__()
        widths = [width, *(width * multiplier for multiplier in CHANNEL_MULTIPLIERS)]
        self.conv_in = conv(num_mels, width, 3)
        self.down = nn.ModuleList(Level(*pair, ENCODER_BLOCKS) for pair in pairwise(widths))
        self.down[0].downsample = Downsample(width)
        self.mid = Middle(widths[-1])
        self.conv_out = conv(widths[-1], 2 * channels, 3)
        self.learnable_gain = nn.Parameter(torch.zeros(()))

    def forward(self, mel_BML: Tensor) -> Tensor:
        x_BCL = self.conv_in(mel_BML)
        for level in self.down:
            x_BCL = level(x_BCL)
        return self.conv_out(silu(self.mid(x_BCL))) * (self.learnable_gain + 1)


class Decoder(nn.Module):
    """Latents to a normalised mel; the rate doubles after the middle level. `up` counts from the output."""

    def __init__(self, num_mels: int, width: int, channels: int) -> None:
        super().__init__()
        widths = [width * multiplier for multiplier in CHANNEL_MULTIPLIERS]
        sources = [*widths[1:], widths[-1]]
        self.conv_in = conv(channels, widths[-1], 3)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList(Level(*pair, DECODER_BLOCKS) for pair in zip(sources, widths, strict=True))
        self.up[1].upsample = Upsample(widths[1])
        self.conv_out = conv(width, num_mels, 3)
        self.learnable_gain = nn.Parameter(torch.zeros(()))

    def forward(self, latents_BCT: Tensor) -> Tensor:
        x_BCL = self.mid(self.conv_in(latents_BCT))
        for level in reversed(self.up):
            x_BCL = level(x_BCL)
        return self.conv_out(silu(x_BCL)) * (self.learnable_gain + 1)


class MelVAE(nn.Module):
    """The autoencoder between mel and latents. Latents are the posterior's mean, not normalised (Ovi)."""

    data_mean: Tensor
    data_std: Tensor

    def __init__(self, num_mels: int, width: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("data_mean", torch.zeros(1, num_mels, 1))
        self.register_buffer("data_std", torch.ones(1, num_mels, 1))
        self.encoder, self.decoder = Encoder(num_mels, width, channels), Decoder(num_mels, width, channels)

    def posterior(self, mel_BML: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance [B, C, L / 2]."""
        mean_BCT, logvar_BCT = self.encoder((mel_BML - self.data_mean) / self.data_std).chunk(2, dim=1)
        return mean_BCT, logvar_BCT

    def decode(self, latents_BCT: Tensor) -> Tensor:
        return self.decoder(latents_BCT) * self.data_std + self.data_mean


class MMAudioVAE(AudioAutoencoder):
    """Waveform to latents and back. Keys are the merged file's: `mel_converter.*`, `vae.*`, `vocoder.*`.

    Args:
        num_mels, width, channels: of the mel autoencoder (published: 80, 384, 20).
        vocoder: arguments of `Vocoder`.
    """

    def __init__(self, num_mels: int = 80, width: int = 384, channels: int = 20, vocoder: dict | None = None) -> None:
        super().__init__()
        vocoder = vocoder or VOCODER_CONFIG
        self.config = {"num_mels": num_mels, "width": width, "channels": channels, "vocoder": vocoder}
        self.latent_channels, self.sample_rate = channels, SAMPLE_RATE
        self.samples_per_latent = MELS_PER_LATENT * HOP
        self.mel_converter = MelConverter(num_mels)
        self.vae = MelVAE(num_mels, width, channels)
        self.vocoder = Vocoder(**vocoder)

    def mel(self, waveform_BN: Tensor) -> Tensor:
        """Log10 mel spectrogram [B, M, floor(N / 256)] of a waveform at 16 kHz."""
        return self.mel_converter(waveform_BN)

    def encode(self, waveform_BN: Tensor) -> Tensor:
        """Waveform at 16 kHz to latents [B, C, N / 512], the posterior's mean.

        Raises:
            ValueError: N is no multiple of samples_per_latent (512).
        """
        check_num_samples(waveform_BN.shape[-1], self.samples_per_latent)
        return self.vae.posterior(self.mel(waveform_BN.to(self.vae.data_mean.device)).to(self.vae.data_mean.dtype))[0]

    def decode(self, latents_BCT: Tensor) -> Tensor:
        """Latents to a waveform [B, 512 T] in -1..1."""
        return self.vocoder(self.vae.decode(latents_BCT.to(self.vae.data_mean)))


def fold_convolutions(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a mel autoencoder as training leaves them, to those that `nn.Conv1d` multiplies by.

    Every filter is brought to unit root mean square and divided by the root of its fan-in. Folded weights
    must not be folded again: `folded` tells them apart.
    """
    folded_tensors = dict(tensors)
    for key, weight in tensors.items():
        if weight.ndim == 3 and key.endswith(".weight"):
            rows = weight.float().flatten(1)
            fan_in = rows.shape[1]
            norm = NORM_EPS + torch.linalg.vector_norm(rows, dim=1) / math.sqrt(fan_in)
            folded_tensors[key] = (weight.float() / (norm * math.sqrt(fan_in))[:, None, None]).to(weight.dtype)
    return folded_tensors


def folded(tensors: dict[str, Tensor]) -> bool:
    """Whether a mel autoencoder's filters already have unit norm."""
    weights = [value for key, value in tensors.items() if value.ndim == 3 and key.endswith("conv1.weight")]
    norms = torch.cat([weight.float().flatten(1).norm(dim=1) for weight in weights])
    return bool((norms - 1).abs().max() < 0.02)


def fold_weight_norm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A vocoder's weights, each magnitude and direction made one weight. Accepts both of torch's spellings."""
    spellings = (
        (".weight_g", ".weight_v"),
        (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    )
    out = dict(tensors)
    for magnitude_suffix, direction_suffix in spellings:
        for key in [key for key in tensors if key.endswith(direction_suffix)]:
            layer = key.removesuffix(direction_suffix)
            direction, magnitude = out.pop(key), out.pop(layer + magnitude_suffix)
            norm = torch.linalg.vector_norm(direction.float().flatten(1), dim=1)[:, None, None]
            out[f"{layer}.weight"] = (direction.float() * (magnitude.float() / norm)).to(direction.dtype)
    return out
