"""Tables that follow from sizes alone: computed once, kept, and good for sampling and training alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
T = TypeVar("T")


def cached_tables(function: Callable[P, T]) -> Callable[P, T]:
    """`lru_cache` for a function that makes tensors.

    A tensor that is made under `torch.inference_mode` can never be saved for a backward pass. The first caller may be
    a sampler and the next a training step, so these are made outside it, whoever asks.
    """
    cached = lru_cache(maxsize=64)(torch.inference_mode(mode=False)(function))
    return cast(Callable[P, T], cached)
