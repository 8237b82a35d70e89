"""torch.compile for the parts of a transformer that repeat: one graph serves all layers and all steps."""

from __future__ import annotations

from typing import Any

from torch import compile as torch_compile

from .interaction import FramewiseAttention
from .transformer import HarmonyTransformer


def compile_layers(model: HarmonyTransformer, **options: Any) -> HarmonyTransformer:
    """Compile every block, each of its halves a graph, and frame-wise attention, in place; returns the model.

    What happens once per pass (embeddings, windows, row groups) stays as it is: it depends on lengths and roles, not on
    the step. Each new clip shape compiles again.

    Args:
        options: of `torch.compile`.
    """
    for block in (block for branch in model.branches for block in branch.blocks):
        block.forward = torch_compile(block.forward, **options)
    for module in model.modules():
        if isinstance(module, FramewiseAttention):
            module.keys_values = torch_compile(module.keys_values, **options)
            module.forward = torch_compile(module.forward, **options)
    return model
