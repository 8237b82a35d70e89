"""ComfyUI's IMAGE (floats in 0..1) and the bytes that `harmony_core` reads and draws."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...harmony_core.media.colour import BACKGROUND

ON_WHITE = "transparent parts are shown on white"


def opaque(images: Tensor) -> Tensor:
    """[..., H, W, 3 or 4] to [..., H, W, 3]: what is transparent shows white, not what was painted under it."""
    if images.shape[-1] == 3:
        return images
    colour, alpha = images[..., :3], images[..., 3:4]
    return colour * alpha + BACKGROUND / 255 * (1 - alpha)


def is_transparent(images: Tensor) -> bool:
    return images.shape[-1] > 3 and bool((images[..., 3] < 1).any())


def to_bytes(images: Tensor) -> np.ndarray:
    """[..., H, W, 3 or 4] in 0..1 to uint8 [..., H, W, 3]."""
    return (opaque(images) * 255).round().clamp(0, 255).byte().cpu().numpy()


def to_images(pixels: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] to floats in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
