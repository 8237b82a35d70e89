"""Pictures as bytes, and as the models see them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_pixels(pictures: Tensor) -> np.ndarray:
    """Values in -1..1 [..., 3, H, W] to uint8 [..., H, W, 3]; what lies beyond is clipped."""
    return ((pictures.movedim(-3, -1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def from_pixels(frames: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] to float32 [..., 3, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float() / 127.5 - 1
