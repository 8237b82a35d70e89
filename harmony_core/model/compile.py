"""torch.compile for the parts of a transformer that repeat: one graph serves all layers and all steps."""

from __future__ import annotations

from typing import Any

from torch import compile as torch_compile

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
    if model.config.interaction == "framewise":
        for interaction in model.interactions:
            for direction in (interaction.a2v, interaction.v2a):
                direction.keys_values = torch_compile(direction.keys_values, **options)
                direction.forward = torch_compile(direction.forward, **options)
    return model
