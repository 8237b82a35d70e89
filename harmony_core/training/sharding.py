"""Weights, gradients and optimiser shared out between processes by FSDP2 (`torch.distributed.fsdp.fully_shard`).

A block or an interaction is a unit: its weights are gathered for as long as it is computed with. `accelerate launch`
with an FSDP config asks for it; what it shares out is then said here, since accelerate's own way is for accelerators
alone, expects one optimiser, and rounds or moves frozen weights that are stored small.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from .frozen import HOST
from .sections import ADAMW_8BIT, ObjectiveConfig
from .shares import whole

if TYPE_CHECKING:
    from ..config import HarmonyConfig
    from .config import TrainingConfig
    from .start import TrainedModel

ASKED = "ACCELERATE_USE_FSDP"
VERSION = "FSDP_VERSION"
# What accelerate launch hands on of an FSDP config: the value that is honoured, and why no other is.
HONOURED = {
    "FSDP_RESHARD_AFTER_FORWARD": (True, "a unit's weights are gathered again for its gradients"),
    "FSDP_OFFLOAD_PARAMS": (False, "weights stay on the device; share them between more processes"),
    "FSDP_ACTIVATION_CHECKPOINTING": (False, "the training config's activation_checkpointing does it"),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": (False, "every process reads the weights itself, memory-mapped"),
}


def take_sharding(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Whether the launcher asks for FSDP, which is then taken from the environment so that accelerate leaves it alone.

    Raises:
        ValueError: FSDP1, a setting of it that is not honoured, or DeepSpeed.
    """
    if _is_true(environment.get("ACCELERATE_USE_DEEPSPEED")):
        raise ValueError(
            "accelerate is set to DeepSpeed, but weights are shared out by FSDP2 here, which takes as much memory as "
            "ZeRO-3; choose FSDP with fsdp_version 2, or multi-GPU. harmony train --plan says what each process takes."
        )
    if not _is_true(environment.get(ASKED)):
        return False
    version = environment.get(VERSION, "1")
    if version != "2":
        raise ValueError(
            f"accelerate is set to FSDP version {version}, but FSDP2 shares weights here; set fsdp_version to 2."
        )
    for name, (honoured, why) in HONOURED.items():
        if name in environment and _is_true(environment[name]) != honoured:
            other, one = str(not honoured).lower(), str(honoured).lower()
            raise ValueError(f"accelerate sets {name.lower()} to {other}, but {why}; set it to {one}.")
    del environment[ASKED]
    return True


def _is_true(value: str | None) -> bool:
    return value is not None and value.lower() in ("true", "1")


def check_sharing(config: TrainingConfig, processes: int) -> None:
    """Raises ValueError for settings with which so many processes cannot share weights out."""
    if processes == 1:
        raise ValueError("accelerate is set to FSDP, but there is 1 process, with nobody to share with; start more.")
    if config.frozen_on == HOST:
        raise ValueError(
            f"accelerate is set to FSDP, but frozen_on is {HOST}, which shares nothing; leave frozen_on out."
        )
    if config.optimizer.kind == ADAMW_8BIT:
        raise ValueError(
            f"accelerate is set to FSDP, but optimizer.kind is {ADAMW_8BIT}, whose moments cannot be shared out; set "
            "it to adamw."
        )


def check_passes(model: HarmonyConfig, objective: ObjectiveConfig) -> None:
    """Raises ValueError for a model of which processes that share it out would make different numbers of passes."""
    if model.starts_from_picture and objective.reference_share:
        raise ValueError(
            f"accelerate is set to FSDP, but objective.reference_share is {objective.reference_share:g}, and "
            "UniAVGen's voices of several lengths go through the model one after the other, in one process more often "
            "than in another; set it to 0, or choose multi-GPU."
        )


def shard(model: TrainedModel, device: torch.device) -> None:
    """Leave every process its share of each parameter, on its device.

    A process holds whole weights of one unit at a time, beside those of none (embeddings, heads, speech encoder). They
    are gathered at their own width: what is computed in bfloat16 is rounded as it is without sharing.
    """
    # The stream's tensors are views that no operation changes in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    transformer = model.transformer
    for branch in transformer.branches:
        for block in branch.blocks:
            fully_shard(block, mesh=mesh)
    for interaction in getattr(transformer, "interactions", ()):
        fully_shard(interaction, mesh=mesh)
    for part in (transformer, model.text_encoder):
        if part is not None:
            fully_shard(part, mesh=mesh)


def gather(model: nn.Module, keep: bool, frozen: bool) -> None:
    """Put whole parameters, on the CPU, in the place of shares, with which nothing is computed any more.

    Every process has to take part; those that do not `keep` them have none afterwards. `frozen`: those as well that
    are not trained.
    """
    for module in list(model.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor) and (frozen or parameter.requires_grad):
                full = whole(parameter.detach())
                kept = full.cpu() if keep else full.new_empty(0)
                setattr(module, name, nn.Parameter(kept, requires_grad=parameter.requires_grad))
