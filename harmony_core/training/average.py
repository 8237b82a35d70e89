"""A moving average of the weights that are trained, which is what a run leaves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average, from the first update on. `decay` 0 follows the weights themselves."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        self._parameters, self._decay = dict(parameters), decay
        self._average: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        if not self._average:
            self._average = {name: each.detach().clone() for name, each in self._parameters.items()}
            return
        for name, average in self._average.items():
            average.lerp_(self._parameters[name], 1 - self._decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the average's weights; before the first update its own."""
        own = {name: self._parameters[name].data for name in self._average}
        for name, average in self._average.items():
            self._parameters[name].data = average
        try:
            yield
        finally:
            for name, weights in own.items():
                self._parameters[name].data = weights

    def state_dict(self) -> dict[str, Tensor]:
        return self._average

    def load_state_dict(self, values: dict[str, Tensor]) -> None:
        self._average = {name: values[name].to(self._parameters[name].device) for name in values}
