"""LoRA (Hu et al. 2021) by peft: adapters of a modality's layers, and the file that ComfyUI and `--lora` read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints.lora import LORA_PREFIX
from ..checkpoints.transfer import branch_of
from ..checkpoints.write import write_safetensors
from ..model import HarmonyTransformer
from ..quoting import quoted

ADAPTER = "default"  # peft's name of the one that there is
TARGETS: dict[str, tuple[str, ...]] = {
    "all": ("video", "audio", "speech", "interactions"),
    "video": ("video",),
    "audio": ("audio", "speech"),
    "interactions": ("interactions",),
}
LAYERS = ("blocks.", "audio.blocks.", "speech.", "interactions.")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Adapters of `rank`, whose product counts `alpha` / `rank` times, on the layers of `targets`.

    `video` is the video branch alone: what it hears is among the `interactions`, as is what the sound sees.
    """

    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.0
    targets: str = "all"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora.rank is {self.rank}, but must be 1 or more; 8 to 64 are usual.")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"lora.alpha is {self.alpha:g}, but must be a number above 0; the rank is usual.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout is {self.dropout:g}, but must be from 0 to below 1.")
        if self.targets not in TARGETS:
            raise ValueError(f"lora.targets is {quoted(self.targets)}, but must be one of {', '.join(TARGETS)}.")


def adapted_layers(transformer: HarmonyTransformer, targets: str) -> list[str]:
    """Names of the linear layers that `targets` names. Raises ValueError for a model that has none of them."""
    names = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(LAYERS) and branch_of(name) in TARGETS[targets]
    ]
    if not names:
        raise ValueError(f"lora.targets is {targets}, but this model has no such layers; choose another.")
    return names


def add_lora(transformer: HarmonyTransformer, config: LoraConfig) -> None:
    """Put adapters on a model, which changes nothing yet, and freeze the rest. Their first weights are torch's global
    generator's."""
    import peft

    names = adapted_layers(transformer, config.targets)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType] (it divides by it alone)
        lora_dropout=config.dropout,
        # As one expression: of a list's names peft takes every module that ends in one, the other branch's too.
        target_modules="|".join(re.escape(name) for name in names),
    )
    transformer.requires_grad_(False)
    peft.inject_adapter_in_model(settings, transformer, ADAPTER)
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # peft gives them the frozen weights' own width


def lora_tensors(transformer: HarmonyTransformer) -> dict[str, Tensor]:
    """The adapters of a model under the names that ComfyUI's loader and Harmony LoRA know."""
    from peft.tuners.lora import Linear

    tensors: dict[str, Tensor] = {}
    for name, layer in transformer.named_modules():
        if isinstance(layer, Linear):
            tensors[f"{LORA_PREFIX}{name}.lora_A.weight"] = layer.get_parameter(f"lora_A.{ADAPTER}.weight")
            tensors[f"{LORA_PREFIX}{name}.lora_B.weight"] = layer.get_parameter(f"lora_B.{ADAPTER}.weight")
            tensors[f"{LORA_PREFIX}{name}.alpha"] = torch.tensor(float(layer.lora_alpha[ADAPTER]))
    return tensors


def save_lora(path: Path, transformer: HarmonyTransformer, metadata: Mapping[str, str]) -> None:
    """Write a model's adapters."""
    write_safetensors(path, lora_tensors(transformer), metadata)
