"""Inputs that several nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io


def seconds_input(name: str, tooltip: str, maximum: float = 3600.0, **options: Any) -> io.Float.Input:
    """A length or a time, 0 unless someone says otherwise."""
    return io.Float.Input(name, default=0.0, min=0.0, max=maximum, step=0.01, tooltip=tooltip, **options)


def pixels_input(name: str, tooltip: str, **options: Any) -> io.Int.Input:
    """A size in pixels, 0 unless someone says otherwise."""
    return io.Int.Input(name, default=0, min=0, max=8192, step=8, tooltip=tooltip, **options)


def layer_list(name: str, text: str) -> tuple[int, ...]:
    """Layer numbers of the comma-separated list in input `name`. Raises ValueError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"{name} is {text!r}; write layer numbers with commas between them, such as 3, 4.")
    return tuple(int(part) for part in parts)
