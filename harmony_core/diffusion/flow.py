"""Flow matching: x_sigma = (1 - sigma) * clean + sigma * noise, velocity = noise - clean.

A schedule is ComfyUI's `simple` one, so that the command line and ComfyUI agree step for step, or that of a published
checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import HarmonyConfig

TABLE_SIZE = 1000


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """shift * sigma / (1 + (shift - 1) * sigma): more of the schedule at high noise as `shift` grows."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sigmas(steps: int, shift: float) -> Tensor:
    """Noise levels [steps + 1] from 1 to 0: every (1000 / steps)-th entry of a 1,000-entry table, from its end.

    Raises:
        ValueError: steps outside 1..1000, or a shift that is not positive.
    """
    _check(steps, shift)
    table = shift_sigma(torch.arange(1, TABLE_SIZE + 1) / TABLE_SIZE, shift)
    picked = [table[-(1 + int(step * TABLE_SIZE / steps))] for step in range(steps)]
    return torch.stack([*picked, torch.zeros(())])


def linear_sigmas(steps: int, shift: float, rounded: bool = False) -> Tensor:
    """Noise levels [steps + 1], float64: time steps evenly from 1000 to 1, shifted, and 0 (UniAVGen's).

    Args:
        rounded: to bfloat16 as published, which leaves steps of 4 at high noise.

    Raises:
        ValueError: as `sigmas`.
    """
    _check(steps, shift)
    times = 1000 * shift_sigma(torch.linspace(1000, 1, steps) / 1000, shift)
    times = times.bfloat16() if rounded else times
    # In float64, so that 1000 sigma is the float32 time again.
    return torch.cat((times.double(), torch.zeros(1, dtype=torch.float64))) / 1000


def model_sigmas(config: HarmonyConfig, steps: int, shift: float) -> Tensor:
    """The schedule that a checkpoint is sampled with. Raises ValueError as `sigmas`."""
    if config.schedule == "linear":
        return linear_sigmas(steps, shift, config.published_rounding)
    return sigmas(steps, shift)


def _check(steps: int, shift: float) -> None:
    if not 1 <= steps <= TABLE_SIZE:
        raise ValueError(f"steps is {steps}, but must be 1 to {TABLE_SIZE}.")
    if shift <= 0:
        raise ValueError(f"shift is {shift:g}, but must be above 0.")


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x_sigma; `sigma` broadcasts."""
    return (1 - sigma) * clean + sigma * noise
