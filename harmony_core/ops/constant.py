"""Functions that torch.compile runs while tracing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)


def compile_time_constant(function: Function) -> Function:
    """torch.compile calls `function` once, while tracing, and keeps what it returns.

    The mark is what `torch.compiler.assume_constant_result` sets; calling that would import torch's whole compiler,
    which takes about as long as importing torch.
    """
    function._dynamo_marked_constant = True
    return function
