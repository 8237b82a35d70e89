"""Weight files as ComfyUI reads them."""

from __future__ import annotations

import comfy.utils
from torch import Tensor


def load_tensors(path: str) -> dict[str, Tensor]:
    """Everything in a file, memory-mapped where ComfyUI does so."""
    tensors = comfy.utils.load_torch_file(path, safe_load=True)
    assert isinstance(tensors, dict)  # metadata comes beside them only where it is asked for
    return tensors
