"""A moving average of the weights that are trained, which is what a run leaves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .shares import local


class WeightAverage:
    """Exponential moving average, from the first update on. `decay` 0 follows the weights themselves.

    `tensors` are the averages by name, none before the first update. Of weights that are shared out each process
    averages its share.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        self._parameters, self._decay = dict(parameters), decay
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        if not self.tensors:
            self.tensors = {name: each.detach().clone() for name, each in self._parameters.items()}
            return
        for name, average in self.tensors.items():
            local(average).lerp_(local(self._parameters[name]), 1 - self._decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the average's weights; before the first update its own."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        """In place: what gathers shares knows them by their memory."""
        for name, average in self.tensors.items():
            one, other = local(self._parameters[name]), local(average)
            kept = one.clone()
            one.copy_(other)
            other.copy_(kept)
