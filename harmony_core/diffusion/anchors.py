"""SyncCFG's anchors: the latent of silence and the latent of a still clip (paper 3.4). Never zeros."""

from __future__ import annotations

import torch
from torch import Tensor

from ..autoencoders.interface import AudioAutoencoder, VideoAutoencoder
from ..geometry import ClipGeometry


def mute_audio(audio_vae: AudioAutoencoder, geometry: ClipGeometry) -> Tensor:
    """Encoded silence of the clip's length. [1, C, T_a]."""
    return audio_vae.encode(torch.zeros(1, geometry.num_audio_latents * audio_vae.samples_per_latent))


def static_video(video_vae: VideoAutoencoder, geometry: ClipGeometry, image_CHW: Tensor | None = None) -> Tensor:
    """An encoded full-length still: of `image_CHW` (-1..1), or mid-grey without one. [1, C, T_v, h, w].

    The whole clip is encoded, because a causal autoencoder's latents of a still clip are not constant in time.
    """
    if image_CHW is None:
        image_CHW = torch.zeros(3, geometry.height, geometry.width)
    still_BCFHW = image_CHW[None, :, None].expand(-1, -1, geometry.num_frames, -1, -1)
    return video_vae.encode(still_BCFHW)
