"""Pictures of what should be seen again, as conditioning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...harmony_core.media import fit_reference_image
from .autoencoders import encode_frames
from .given import clip_geometry

IMAGE = "harmony_reference_image"  # latents [1,C,J,h,w] as the autoencoder makes them, J pictures


def give_reference_images(
    conditioning: Any, vae: Any, latent: dict[str, Any], images_JHWC: Tensor
) -> tuple[Any, tuple[str, ...]]:
    """CONDITIONING with the latents of every picture, after those that it has, and what was changed about them.

    Raises:
        ValueError: as `clip_geometry`.
    """
    geometry = clip_geometry(latent, vae)
    latents, notes = [], []
    for image_HWC in images_JHWC:
        pixels = (image_HWC[..., :3] * 255).round().clamp(0, 255).byte().cpu().numpy()
        fitted, said = fit_reference_image(pixels, geometry.height, geometry.width)
        latents.append(encode_frames(vae, torch.from_numpy(fitted)[None].float() / 255))
        notes += said
    given = []
    for text, extra in conditioning:
        before = [extra[IMAGE]] if IMAGE in extra else []
        given.append([text, {**extra, IMAGE: torch.cat((*before, *latents), dim=2)}])
    return given, tuple(dict.fromkeys(notes))
