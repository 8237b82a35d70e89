"""torch.compile for the parts of a transformer that repeat: one graph serves all layers and all steps."""

from __future__ import annotations

from torch import compile as torch_compile

from .transformer import HarmonyTransformer


def compile_layers(model: HarmonyTransformer, **options) -> HarmonyTransformer:
    """Compile both halves of every block, and frame-wise attention, in place; returns the model.

    What happens once per pass (embeddings, windows, row groups) stays as it is: it depends on lengths and roles, not on
    the step. Each new clip shape compiles again.

    Args:
        options: of `torch.compile`.
    """
    branches = (model, model.audio) if model.config.audio else (model,)
    for block in (block for branch in branches for block in branch.blocks):
        block.attend = torch_compile(block.attend, **options)
        block.finish = torch_compile(block.finish, **options)
    if model.config.interaction == "framewise":
        for interaction in model.interactions:
            for direction in (interaction.a2v, interaction.v2a):
                direction.keys_values = torch_compile(direction.keys_values, **options)
                direction.forward = torch_compile(direction.forward, **options)
    return model
