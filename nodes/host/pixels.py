"""ComfyUI's IMAGE (floats in 0..1) and the bytes that `harmony_core` reads and draws."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_bytes(images: Tensor) -> np.ndarray:
    """[..., H, W, >= 3] in 0..1 to uint8 [..., H, W, 3]."""
    return (images[..., :3] * 255).round().clamp(0, 255).byte().cpu().numpy()


def to_images(pixels: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] to floats in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
