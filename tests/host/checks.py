"""What a saved clip must be."""

from __future__ import annotations

import numpy as np

from tools.comfyui.outputs import read_clip

AAC_FRAME = 1024  # samples; the last one is filled up


def check_clip(file: bytes, num_frames: int, size: tuple[int, int], fps: float) -> None:
    """Both tracks are there, equally long to within one frame of either, and hold something."""
    frames, samples, rate, sample_rate = read_clip(file)
    assert frames.shape == (num_frames, *size, 3)
    assert abs(rate - fps) < 0.01
    assert abs(len(frames) / rate - len(samples) / sample_rate) <= max(1 / rate, AAC_FRAME / sample_rate)
    assert np.abs(samples).max() > 0.01, "the sound is silent"
    assert frames.std() > 2, "the picture is empty"
