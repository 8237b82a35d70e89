"""Gradients of a step: measured by branch, clipped, and left out where there are none.

A process may hold its share of each alone (see `shares`); sums over all shares are the whole gradient's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .shares import local, sum_shares
from .start import TrainedModel, branch_of_parameter


def clip_and_measure(model: TrainedModel, most: float) -> dict[str, float]:
    """Clip all gradients together to a norm of `most`. Returns the norms before, of each branch."""
    gradients = [(name, parameter.grad) for name, parameter in model.trained() if parameter.grad is not None]
    if not gradients:
        return {}
    squares: dict[str, list[Tensor]] = defaultdict(list)
    for name, gradient in gradients:
        squares[branch_of_parameter(name)].append(local(gradient).float().square().sum())
    sums = torch.stack([torch.stack(each).sum() for each in squares.values()])
    norms = sum_shares(sums, gradients[0][1]).sqrt()
    factor = (most / (norms.norm() + 1e-6)).clamp(max=1.0)
    for _, gradient in gradients:
        local(gradient).mul_(factor)
    return {f"gradient/{branch}": norm for branch, norm in zip(squares, norms.tolist(), strict=True)}


def drop_zero_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """What nothing in this step depended on is left as it is: Muon makes a full step of a gradient of zeros, and
    AdamW's momentum goes on."""
    with_gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    sizes = torch.stack([local(gradient.detach()).abs().sum() for _, gradient in with_gradients])
    sizes = sum_shares(sizes, with_gradients[0][1]).tolist()
    for (parameter, _), size in zip(with_gradients, sizes, strict=True):
        if size == 0:
            parameter.grad = None
