"""Weights of a fresh model (Wan2.2's scheme, and an interaction that starts as nothing)."""

from __future__ import annotations

import math

import torch
from torch import nn

from .transformer import HarmonyTransformer


@torch.no_grad()
def initialize(transformer: HarmonyTransformer, generator: torch.Generator) -> None:
    """Xavier for linear layers, zero for heads and for the interactions' outputs, so that a model whose video branch
    is then loaded from Wan weights starts as Wan."""
    for module in transformer.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv3d):
            fan_out, fan_in = module.weight.shape[0], module.weight[0].numel()
            bound = math.sqrt(6 / (fan_in + fan_out))
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(std=0.5, generator=generator)
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm) and module.weight is not None:
            module.weight.fill_(1)
            if isinstance(module, nn.LayerNorm) and module.bias is not None:
                module.bias.zero_()
    for name, parameter in transformer.named_parameters():
        if name.endswith("modulation"):
            parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
        elif name.endswith(("grn.gamma", "grn.beta", "head.head.weight", "audio.padding")) or (
            "interactions." in name and ".o." in name
        ):
            parameter.zero_()
