"""What moves the weights: Muon beside AdamW, or AdamW alone, with its moments in 8 bits where memory is short."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

import torch
from torch import nn

from .config import TrainingConfig
from .muon import Muon
from .sections import ADAMW, ADAMW_8BIT, MUON, OptimizerConfig

LAYERS = ("transformer.blocks.", "transformer.audio.blocks.", "transformer.interactions.")
BETAS = (0.9, 0.98)


def check_optimizer(config: TrainingConfig) -> None:
    """Raises ValueError for one that is not installed, or not made for what is trained."""
    kind = config.optimizer.kind
    if kind == MUON and config.lora is not None:
        raise ValueError(
            f"optimizer.kind is {MUON}, which makes every update of a matrix of full rank in size, but lora trains "
            f"narrow ones that start at zero; set optimizer.kind to {ADAMW}."
        )
    if kind == ADAMW_8BIT and find_spec("bitsandbytes") is None:
        raise ValueError(
            f"optimizer.kind is {ADAMW_8BIT}, which bitsandbytes computes, and that is not installed; pip install "
            "bitsandbytes, or set optimizer.kind to adamw, which needs four times the memory for its moments."
        )


def matrices_and_rest(
    parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What Muon has, nothing without it, and what AdamW has."""
    matrices, rest = [], []
    for name, parameter in parameters:
        inside = config.kind == MUON and name.startswith(LAYERS) and parameter.ndim == 2
        (matrices if inside else rest).append(parameter)
    return matrices, rest


def make_optimizers(
    parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig
) -> list[torch.optim.Optimizer]:
    """Of the parameters that are trained, by name. Under `muon`, it has the matrices of the layers, and AdamW
    embeddings, heads, norms and biases."""
    matrices, rest = matrices_and_rest(parameters, config)
    optimizers: list[torch.optim.Optimizer] = [Muon(matrices, lr=config.muon_lr, shared=True)] if matrices else []
    if config.kind == ADAMW_8BIT:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]

        optimizers.append(AdamW8bit(rest, lr=config.adamw_lr, betas=BETAS, weight_decay=config.weight_decay))
    else:
        decay = config.weight_decay
        optimizers.append(torch.optim.AdamW(rest, lr=config.adamw_lr, betas=BETAS, weight_decay=decay, fused=True))
    return optimizers


def rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Warm-up, constant, then linear to zero over the last `decay_share` of the run."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return warm * min(1.0, (steps - step) / max(config.decay_share * steps, 1))
