"""Rendered clips of the toy world, and what a small autoencoder does to one."""

from __future__ import annotations

from functools import cache

import numpy as np

from harmony_core.toyworld import HELD_OUT_SEED, ToyClip, render, sample_scene


@cache
def clips(kind: str) -> tuple[ToyClip, ...]:
    return tuple(render(sample_scene(np.random.default_rng(HELD_OUT_SEED + seed), kind)) for seed in range(12))


def roughen(video: np.ndarray) -> np.ndarray:
    """What a small autoencoder does to a clip: a slight blur, and noise."""
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    blurred = video.astype(np.float64)
    for axis in (1, 2):
        blurred = np.apply_along_axis(np.convolve, axis, blurred, kernel / kernel.sum(), "same")
    noise = np.random.default_rng(0).normal(0, 5, video.shape)
    return np.clip(np.round(blurred + noise), 0, 255).astype(np.uint8)
