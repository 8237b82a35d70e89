"""Keys and values of a driver stream, kept for the length of one run.

Exact, because an isolated driver's input, noise level and text do not change between steps and nothing reaches it
from the other side (models that train without driver isolation must not use it).
"""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor


class DriverCache:
    """Per driver and layer, the named keys and values that the other stream reads."""

    def __init__(self) -> None:
        self._layers: dict[Hashable, list[dict[str, tuple[Tensor, Tensor]]]] = {}
        self._filling: dict[Hashable, list[dict[str, tuple[Tensor, Tensor]]]] = {}

    def filled(self, key: Hashable) -> bool:
        return key in self._layers

    def store(self, key: Hashable, entries: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Append the next layer's entries."""
        self._filling.setdefault(key, []).append(entries)

    def finish(self) -> None:
        """Every layer of the drivers being filled has been stored: the next pass may read them."""
        self._layers.update(self._filling)
        self._filling = {}

    def load(self, key: Hashable, layer: int) -> dict[str, tuple[Tensor, Tensor]]:
        return self._layers[key][layer]
