"""Which sound a video latent hears and which picture an audio latent sees in UniAVGen: tables of indices and weights.

Legend: T video latents, F = 4 (T - 1) + 1 frames, L audio latents, W window.
"""

from __future__ import annotations

from math import ceil, floor

import torch
from torch import Tensor

from ..ops.tables import cached_tables

STRIDE = 4


@cached_tables
def window_indices(num_latent_frames: int, num_audio: int, margin: int) -> Tensor:
    """Audio latents that each video latent hears: int64 [T, W].

    Its frames with `margin` frames either side, all windows as wide as the widest but the first's. What lies beyond an
    end is that end's latent again.

    Raises:
        ValueError: a single video latent, which has no window.
    """
    if num_latent_frames < 2:
        raise ValueError("A clip of one latent frame has no windows of sound; ask for 5 frames or more.")
    rate = num_audio / (STRIDE * (num_latent_frames - 1) + 1)
    before, after = floor(margin * rate), ceil(margin * rate)
    windows = [(-before, 1 + after)]  # of one audio latent, as published, not of one frame
    for i in range(1, num_latent_frames):
        first, last = STRIDE * i - STRIDE + 1, STRIDE * i + 1
        windows.append((floor(rate * first) - before, ceil(rate * last) + after))
    width = max(end - start for start, end in windows[1:])
    rows = []
    for start, end in windows:
        missing = width - (end - start)
        if start < 0:
            start -= missing
        elif end < num_audio:
            start -= missing // 2
        rows.append(torch.arange(start, start + width))
    return torch.stack(rows).clamp(0, num_audio - 1)


@cached_tables
def frame_weights(num_latent_frames: int, num_audio: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The two video latents [L, 2] that each audio latent sees, and their weights, float32 [L, 2].

    Linear between neighbouring frames, of which a latent holds several. Behind the last frame there is no neighbour:
    it counts twice there, as published.

    Args:
        dtype: of the positions: float64, or bfloat16 as published.
    """
    num_frames = STRIDE * (num_latent_frames - 1) + 1
    position = torch.arange(num_audio).to(dtype) * (num_frames / num_audio)
    below = position.floor().clamp(0, num_frames - 1)
    above = (below + 1).clamp(0, num_frames - 1)
    weights = torch.stack((1 - (above - position), 1 - (position - below)), dim=1)
    frames = torch.stack((above, below), dim=1).long()
    return torch.div(frames - 1, STRIDE, rounding_mode="floor") + 1, weights.float()
