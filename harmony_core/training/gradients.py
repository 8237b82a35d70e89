"""Gradients of a step: measured by branch, clipped, and left out where there are none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .start import TrainedModel, branch_of_parameter

if TYPE_CHECKING:
    from accelerate import Accelerator


def clip_and_measure(accelerator: Accelerator, model: TrainedModel, most: float) -> dict[str, float]:
    """Clip all gradients together to a norm of `most`. Returns the norms before, of each branch and of all."""
    squares: dict[str, list[Tensor]] = defaultdict(list)
    for name, parameter in model.trained():
        if parameter.grad is not None:
            squares[branch_of_parameter(name)].append(torch.linalg.vector_norm(parameter.grad.float()).square())
    norms = {branch: float(torch.stack(each).sum().sqrt()) for branch, each in squares.items()}
    accelerator.clip_grad_norm_([each for _, each in model.trained()], most)
    return {f"gradient/{branch}": norm for branch, norm in norms.items()}


def drop_zero_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """What nothing in this step depended on is left as it is: Muon makes a full step of a gradient of zeros, and
    AdamW's momentum goes on."""
    with_gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    largest = torch.stack([gradient.detach().abs().max() for _, gradient in with_gradients]).tolist()
    for (parameter, _), peak in zip(with_gradients, largest, strict=True):
        if peak == 0:
            parameter.grad = None
