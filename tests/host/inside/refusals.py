"""What a call says when it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def message_of(call: Callable, *arguments: Any) -> str:
    """What a call is refused with. Raises AssertionError when it goes through."""
    try:
        call(*arguments)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{arguments} went through")
