"""The two small autoencoders of the embedded checkpoint.

Legend: B batch, C channels, F pixel frames, T latent frames or audio latents, H and W height and width (pixels
outside, latents inside a VAE), N samples, K frequency bins, M mel bands, L spectrogram frames.

Both are variational with a fixed posterior width: latents are normalised per channel to unit variance, and training
adds noise of a fixed, small deviation to them. That bounds the information they carry and makes the decoder smooth
around them, as a learned width with a KL term would, with nothing to balance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .interface import AudioAutoencoder, VideoAutoencoder
from .lengths import check_num_samples, check_video_shape
from .mel import FLOOR, Spectrogram

FRAMES_PER_LATENT = 4
PIXELS_PER_LATENT = 8
CHUNK_PIXELS = 2**20  # of frames that are encoded or decoded together: some 300 MB at the decoder's widest


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over channels at each position, so that nothing depends on the size of the input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ResidualBlock(nn.Module):
    """Norm, then two width-3 convolutions around a SiLU, added to the input. `conv` is nn.Conv1d or nn.Conv2d."""

    def __init__(self, conv: type[nn.Conv1d | nn.Conv2d], channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv_in = conv(channels, channels, 3, padding=1)
        self.conv_out = conv(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_out(F.silu(self.conv_in(self.norm(x))))


def residual_blocks(conv: type[nn.Conv1d | nn.Conv2d], channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(conv, channels) for _ in range(count)))


class TinyVideoVAE(VideoAutoencoder):
    """Each frame becomes an 8 times smaller picture of `channels` channels; four frames share a latent frame.

    Latent 0 holds frame 0 four times, latent i >= 1 frames 4i-3 .. 4i, as channels `4 x channels` (slot-major).

    Args:
        channels: latent channels of one frame.
        width: channels at 1/8 of the size.
        mid_width: channels at 1/4.
        fine_width: channels at 1/2, in the decoder alone.
        encoder_blocks, decoder_blocks: residual blocks at 1/8; the decoder has as many at 1/4, the encoder one.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        channels: int = 6,
        width: int = 80,
        mid_width: int = 64,
        fine_width: int = 32,
        encoder_blocks: int = 2,
        decoder_blocks: int = 2,
    ) -> None:
        super().__init__()
        self.config = {
            "channels": channels,
            "width": width,
            "mid_width": mid_width,
            "fine_width": fine_width,
            "encoder_blocks": encoder_blocks,
            "decoder_blocks": decoder_blocks,
        }
        self.latent_channels = FRAMES_PER_LATENT * channels
        conv = nn.Conv2d
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            conv(48, mid_width, 3, padding=1),
            *residual_blocks(conv, mid_width, 1),
            nn.PixelUnshuffle(2),
            conv(4 * mid_width, width, 1),
            *residual_blocks(conv, width, encoder_blocks),
            ChannelNorm(width),
            conv(width, channels, 1),
        )
        self.decoder = nn.Sequential(
            conv(channels, width, 3, padding=1),
            *residual_blocks(conv, width, decoder_blocks),
            conv(width, 4 * mid_width, 1),
            nn.PixelShuffle(2),
            *residual_blocks(conv, mid_width, decoder_blocks),
            conv(mid_width, 4 * fine_width, 1),
            nn.PixelShuffle(2),
            *residual_blocks(conv, fine_width, 1),
            ChannelNorm(fine_width),
            nn.SiLU(),
            conv(fine_width, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_std", torch.ones(channels))
        self.to(memory_format=torch.channels_last)

    def encode_frames(self, frames_BCHW: Tensor) -> Tensor:
        """Frames in -1..1 to latents before normalisation, [B, channels, H / 8, W / 8]."""
        return self.encoder(frames_BCHW.contiguous(memory_format=torch.channels_last))

    def decode_frames(self, latents_BCHW: Tensor) -> Tensor:
        """Normalised latents of single frames to frames, unclamped, [B, 3, 8 H, 8 W]."""
        return self.decoder(latents_BCHW.contiguous(memory_format=torch.channels_last))

    def encode(self, video_BCFHW: Tensor) -> Tensor:
        """Video in -1..1 to normalised latents [B, 4 x channels, T, H / 8, W / 8], F = 4 (T - 1) + 1.

        Raises:
            ValueError: F is not 4n + 1, or H or W no multiple of 8.
        """
        batch, _, num_frames, height, width = video_BCFHW.shape
        check_video_shape(num_frames, height, width, FRAMES_PER_LATENT, PIXELS_PER_LATENT)
        frames = video_BCFHW.to(self.latent_mean).transpose(1, 2).flatten(0, 1)
        raw = torch.cat([self.encode_frames(chunk) for chunk in frames.split(_frames_together(height, width))])
        frames = (raw - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]
        frames = frames.unflatten(0, (batch, num_frames))
        slots = torch.cat([frames[:, :1].repeat(1, FRAMES_PER_LATENT - 1, 1, 1, 1), frames], dim=1)
        return slots.unflatten(1, (-1, FRAMES_PER_LATENT)).flatten(2, 3).transpose(1, 2).contiguous()

    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Normalised latents to video [B, 3, 4 (T - 1) + 1, 8 H, 8 W] in -1..1. Latent 0 is its slots' average."""
        slots = latents_BCTHW.to(self.latent_mean).transpose(1, 2).unflatten(2, (FRAMES_PER_LATENT, -1))
        frames = torch.cat([slots[:, :1].mean(2), slots[:, 1:].flatten(1, 2)], dim=1)
        height, width = (side * PIXELS_PER_LATENT for side in frames.shape[-2:])
        chunks = frames.flatten(0, 1).split(_frames_together(height, width))
        video = torch.cat([self.decode_frames(chunk).clamp(-1, 1) for chunk in chunks])
        return video.unflatten(0, frames.shape[:2]).transpose(1, 2).contiguous()


def _frames_together(height: int, width: int) -> int:
    """How many frames of a size go through at once. Frames are independent, so the results are the same."""
    return max(1, CHUNK_PIXELS // (height * width))


class TinyAudioVAE(AudioAutoencoder):
    """Log-mel frames, four to a latent, decoded to a linear spectrogram that Griffin-Lim turns into sound.

    Decoding to the linear spectrogram rather than to mel makes the mel inversion a learnt part of the decoder.

    Args:
        channels: latent channels.
        sample_rate: in Hz.
        num_mels, hop, window: the spectrogram (mel.py); the frames overlap by window - hop samples.
        width: channels at spectrogram rate.
        latent_width: channels at latent rate.
        blocks: residual blocks per stage.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        channels: int = 20,
        sample_rate: int = 16000,
        num_mels: int = 80,
        hop: int = 160,
        window: int = 640,
        width: int = 96,
        latent_width: int = 112,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.config = {
            "channels": channels,
            "sample_rate": sample_rate,
            "num_mels": num_mels,
            "hop": hop,
            "window": window,
            "width": width,
            "latent_width": latent_width,
            "blocks": blocks,
        }
        self.latent_channels, self.sample_rate = channels, sample_rate
        self.samples_per_latent = FRAMES_PER_LATENT * hop
        self.spectrogram = Spectrogram(sample_rate, num_mels, hop, window)
        conv = nn.Conv1d
        self.encoder = nn.Sequential(
            conv(num_mels, width, 3, padding=1),
            *residual_blocks(conv, width, blocks),
            FoldTime(),
            conv(FRAMES_PER_LATENT * width, latent_width, 1),
            *residual_blocks(conv, latent_width, blocks),
            ChannelNorm(latent_width),
            conv(latent_width, channels, 1),
        )
        self.decoder = nn.Sequential(
            conv(channels, latent_width, 3, padding=1),
            *residual_blocks(conv, latent_width, blocks),
            conv(latent_width, FRAMES_PER_LATENT * width, 1),
            UnfoldTime(),
            *residual_blocks(conv, width, blocks),
            ChannelNorm(width),
            conv(width, self.spectrogram.num_bins, 1),
        )
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_std", torch.ones(channels))

    def mel(self, waveform_BN: Tensor) -> Tensor:
        """Natural-log mel spectrogram [B, num_mels, N / hop]."""
        return self.spectrogram.log_mel(waveform_BN)

    def encode_mel(self, mel_BML: Tensor) -> Tensor:
        """Log-mel to latents before normalisation, [B, channels, L / 4]."""
        return self.encoder(_to_unit(mel_BML))

    def decode_spectrum(self, latents_BCT: Tensor) -> Tensor:
        """Normalised latents to log amplitudes [B, K, 4 T]."""
        return _from_unit(self.decoder(latents_BCT))

    def encode(self, waveform_BN: Tensor) -> Tensor:
        """Waveform to normalised latents [B, channels, N / 640].

        Raises:
            ValueError: N is no multiple of samples_per_latent (640).
        """
        check_num_samples(waveform_BN.shape[-1], self.samples_per_latent)
        return (
            self.encode_mel(self.mel(waveform_BN.to(self.latent_mean))) - self.latent_mean[:, None]
        ) / self.latent_std[:, None]

    def decode_magnitude(self, latents_BCT: Tensor) -> Tensor:
        """Normalised latents to amplitudes [B, K, 4 T]. What lies at the floor stands for silence and becomes 0."""
        return (self.decode_spectrum(latents_BCT).exp() - 2 * FLOOR).clamp(min=0)

    def decode(self, latents_BCT: Tensor) -> Tensor:
        """Normalised latents to a waveform [B, T x 640] in -1..1; the same latents always give the same samples."""
        return self.spectrogram.griffin_lim(self.decode_magnitude(latents_BCT.to(self.latent_mean))).clamp(-1, 1)


class FoldTime(nn.Module):
    """[B, C, 4 T] -> [B, 4 C, T], frame-major."""

    def forward(self, x_BCL: Tensor) -> Tensor:
        return x_BCL.unflatten(2, (-1, FRAMES_PER_LATENT)).permute(0, 3, 1, 2).flatten(1, 2)


class UnfoldTime(nn.Module):
    """[B, 4 C, T] -> [B, C, 4 T], the inverse of FoldTime."""

    def forward(self, x_BCT: Tensor) -> Tensor:
        return x_BCT.unflatten(1, (FRAMES_PER_LATENT, -1)).permute(0, 2, 3, 1).flatten(2, 3)


# Log amplitudes run from log(FLOOR) = -9.2 to about 0: this puts them in about -1..1.
_LOG_CENTRE, _LOG_SCALE = -5.0, 4.0


def _to_unit(level: Tensor) -> Tensor:
    return (level - _LOG_CENTRE) / _LOG_SCALE


def _from_unit(level: Tensor) -> Tensor:
    return level * _LOG_SCALE + _LOG_CENTRE
