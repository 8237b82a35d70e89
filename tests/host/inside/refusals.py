"""What a call says when it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def error_of(call: Callable, *arguments: Any) -> ValueError:
    """What a call is refused with. Raises AssertionError when it goes through."""
    try:
        call(*arguments)
    except ValueError as error:
        return error
    raise AssertionError(f"{arguments} went through")


def message_of(call: Callable, *arguments: Any) -> str:
    """The same in words."""
    return str(error_of(call, *arguments))
