"""Keys and values of a driver stream, kept for the length of one run.

Exact, because an isolated driver's input, noise level and text do not change between steps and nothing reaches it
from the other side (models that train without driver isolation must not use it).

Legend: S source tokens, H heads, d head size.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from .memory import DEVICE, HOST

Entries = dict[str, tuple[Tensor, Tensor]]  # "a2v", "v2a", "style" -> k_BSHd, v_BSHd


class DriverCache:
    """Per driver and layer, the named keys and values that the other stream reads.

    One cache serves one run; drop it afterwards. A pass stores the drivers that the cache lacks and reads those that
    it has, as `HarmonyTransformer.forward` is told by `drivers`.

    Args:
        placement: `device` keeps entries where they were computed. `host` keeps them in main memory (pinned, from a
            CUDA device) and brings one layer at a time, the next while the current one computes. `off` is to pass no
            cache at all; `memory.choose_placement` chooses.

    Raises:
        ValueError: another placement.
    """

    def __init__(self, placement: str = DEVICE) -> None:
        if placement not in (DEVICE, HOST):
            raise ValueError(f"placement is {placement!r}; choose {DEVICE} or {HOST}, or pass no cache at all.")
        self.placement = placement
        self._layers: dict[Hashable, list[Entries]] = {}
        self._filling: dict[Hashable, list[Entries]] = {}
        self._device: torch.device | None = None  # that stored them, where they lie elsewhere
        self._copies: torch.cuda.Stream | None = None
        self._ahead: dict[Hashable, tuple[int, Entries]] = {}  # the layer on its way to the device, per driver

    def filled(self, key: Hashable) -> bool:
        return key in self._layers

    def store(self, key: Hashable, entries: Entries) -> None:
        """Append the next layer's entries."""
        if self.placement == HOST:
            self._device = next(iter(entries.values()))[0].device
            entries = {name: (_to_host(k), _to_host(v)) for name, (k, v) in entries.items()}
        self._filling.setdefault(key, []).append(entries)

    def finish(self) -> None:
        """Every layer of the drivers being filled has been stored: the next pass may read them."""
        self._layers.update(self._filling)
        self._filling = {}

    def load(self, key: Hashable, layer: int) -> Entries:
        """Entries of one layer, on the device that stored them."""
        if self._device is None or self._device.type != "cuda":
            return self._layers[key][layer]
        if self._copies is None:
            self._copies = torch.cuda.Stream(self._device)
        coming, entries = self._ahead.pop(key, (-1, {}))
        if coming != layer:
            entries = self._fetch(key, layer, self._copies)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._copies)
        for x in (x for pair in entries.values() for x in pair):
            x.record_stream(current)  # made on the copying stream: not to be reused before this one has read it
        following = (layer + 1) % len(self._layers[key])
        self._ahead[key] = following, self._fetch(key, following, self._copies)
        return entries

    def _fetch(self, key: Hashable, layer: int, copies: torch.cuda.Stream) -> Entries:
        """Start copying one layer to the device, beside what computes there."""
        with torch.cuda.stream(copies):
            return {
                name: (k.to(self._device, non_blocking=True), v.to(self._device, non_blocking=True))
                for name, (k, v) in self._layers[key][layer].items()
            }

    def bytes_held(self) -> int:
        """Bytes of all entries, wherever they lie."""
        drivers = (*self._layers.values(), *self._filling.values())
        tensors = (x for layers in drivers for entries in layers for pair in entries.values() for x in pair)
        return sum(x.numel() * x.element_size() for x in tensors)


def _to_host(x: Tensor) -> Tensor:
    if x.device.type != "cuda":
        return x.cpu()
    return torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x)
