"""What every autoencoder is to the rest: a module with these methods and facts.

Legend: B batch, C latent channels, F frames, H W pixels, N samples, T latents.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class VideoAutoencoder(nn.Module):
    """`config`: constructor arguments, as a checkpoint stores them."""

    config: dict[str, Any]
    latent_channels: int

    def encode(self, video_BCFHW: Tensor) -> Tensor:
        """Video in -1..1 to normalised latents [B, C, T, h, w], F = stride * (T - 1) + 1."""
        raise NotImplementedError

    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Normalised latents to video [B, 3, F, H, W] in -1..1."""
        raise NotImplementedError


class AudioAutoencoder(nn.Module):
    """`config`: constructor arguments, as a checkpoint stores them."""

    config: dict[str, Any]
    latent_channels: int
    sample_rate: int
    samples_per_latent: int

    def encode(self, waveform_BN: Tensor) -> Tensor:
        """Waveform in -1..1, N a multiple of `samples_per_latent`, to latents [B, C, T]."""
        raise NotImplementedError

    def decode(self, latents_BCT: Tensor) -> Tensor:
        """Latents to a waveform [B, T * samples_per_latent] in -1..1."""
        raise NotImplementedError
