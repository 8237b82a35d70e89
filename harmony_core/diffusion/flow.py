"""Flow matching: x_sigma = (1 - sigma) * clean + sigma * noise, velocity = noise - clean.

The schedule is ComfyUI's `simple` one, so that the command line and ComfyUI agree step for step.
"""

from __future__ import annotations

import torch
from torch import Tensor

TABLE_SIZE = 1000


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """shift * sigma / (1 + (shift - 1) * sigma): more of the schedule at high noise as `shift` grows."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sigmas(steps: int, shift: float) -> Tensor:
    """Noise levels [steps + 1] from 1 to 0: every (1000 / steps)-th entry of a 1,000-entry table, from its end.

    Raises:
        ValueError: steps outside 1..1000, or a shift that is not positive.
    """
    if not 1 <= steps <= TABLE_SIZE:
        raise ValueError(f"steps is {steps}, but must be 1 to {TABLE_SIZE}.")
    if shift <= 0:
        raise ValueError(f"shift is {shift:g}, but must be above 0.")
    table = shift_sigma(torch.arange(1, TABLE_SIZE + 1) / TABLE_SIZE, shift)
    picked = [table[-(1 + int(step * TABLE_SIZE / steps))] for step in range(steps)]
    return torch.stack([*picked, torch.zeros(())])


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x_sigma; `sigma` broadcasts."""
    return (1 - sigma) * clean + sigma * noise
