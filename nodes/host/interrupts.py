"""Interruption within what takes long. ComfyUI itself looks between steps and between nodes alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import comfy.model_management
import torch
from torch import nn


def stop_before(modules: Iterable[nn.Module]) -> None:
    """From now on each of these looks, before it runs, whether somebody has asked ComfyUI to stop."""
    for module in modules:
        module.register_forward_pre_hook(_look)


def _look(*_: Any) -> None:
    if not torch.compiler.is_compiling():  # the lock in there would break every graph in two
        comfy.model_management.throw_exception_if_processing_interrupted()
