"""What the video latents of a checkpoint look like to ComfyUI: normalisation and preview colours."""

from __future__ import annotations

import comfy.latent_formats

from ...harmony_core.config import HarmonyConfig
from .autoencoders import LTX_VIDEO_CHANNELS, WAN22_CHANNELS


class TinyLatent(comfy.latent_formats.LatentFormat):
    """The embedded autoencoder normalises by itself."""

    latent_dimensions = 3
    temporal_downscale_ratio = 4

    def __init__(self, config: HarmonyConfig) -> None:
        self.latent_channels = config.video_channels
        self.spacial_downscale_ratio = config.spatial_stride


class Wan22Latent(comfy.latent_formats.Wan22):
    """Wan2.2's per-channel mean and std. Its preview decoder would be handed a packed latent, so colours only."""

    def __init__(self) -> None:
        super().__init__()
        self.taesd_decoder_name = None


def latent_format(config: HarmonyConfig) -> comfy.latent_formats.LatentFormat:
    """The format for a checkpoint's video latents."""
    if config.video_channels == LTX_VIDEO_CHANNELS:
        return comfy.latent_formats.LTXAV()
    return Wan22Latent() if config.video_channels == WAN22_CHANNELS else TinyLatent(config)
