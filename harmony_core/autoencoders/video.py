"""Wan2.2's video autoencoder: diffusers' AutoencoderKLWan behind the interface of our own.

Legend: B batch, C channels, F pixel frames, T latent frames, H and W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .interface import VideoAutoencoder
from .lengths import check_video_shape

FRAMES_PER_LATENT, PIXELS_PER_LATENT = 4, 16

# Per-channel statistics of Wan2.2's latents, published with the model.
# fmt: off
LATENT_MEAN = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.157, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.052, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)
LATENT_STD = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)
# fmt: on

# AutoencoderKLWan's arguments for the published Wan2.2 weights. Its 12 channels are 2x2 pixels of RGB.
WAN22_CONFIG = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_temporal": FRAMES_PER_LATENT,
    "scale_factor_spatial": PIXELS_PER_LATENT,
    "latents_mean": list(LATENT_MEAN),
    "latents_std": list(LATENT_STD),
}


class WanVideoVAE(VideoAutoencoder):
    """4x16x16 causal video autoencoder; latent 0 holds frame 0 alone, latent i >= 1 frames 4i-3 .. 4i.

    Args:
        config: changes to `WAN22_CONFIG`, for toy sizes.
        device: where the weights are made; `meta` before loading.
    """

    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, config: dict | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__()
        from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

        self.config = {**WAN22_CONFIG, **(config or {})}
        self.latent_channels = self.config["z_dim"]
        with torch.device(device):
            self.vae = AutoencoderKLWan(**self.config)
        for name in ("latents_mean", "latents_std"):
            values = torch.tensor(self.config[name]).view(1, -1, 1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def encode(self, video_BCFHW: Tensor) -> Tensor:
        """Video in -1..1 to normalised latents [B, C, T, H / 16, W / 16], the posterior's mean; F = 4 (T - 1) + 1.

        Raises:
            ValueError: F is not 4n + 1, or H or W no multiple of 16.
        """
        num_frames, height, width = video_BCFHW.shape[2:]
        check_video_shape(num_frames, height, width, FRAMES_PER_LATENT, PIXELS_PER_LATENT)
        video_BCFHW = video_BCFHW.to(self.latents_mean.device, self.vae.dtype)
        (posterior,) = self.vae.encode(video_BCFHW, return_dict=False)
        latents = posterior.mode().float()
        return (latents - self.latents_mean) / self.latents_std

    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Normalised latents to video [B, 3, 4 (T - 1) + 1, 16 H, 16 W] in -1..1."""
        latents = latents_BCTHW.to(self.latents_std) * self.latents_std + self.latents_mean
        (video_BCFHW,) = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)
        return video_BCFHW.float()
