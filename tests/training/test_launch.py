"""The shipped settings of `accelerate launch`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy

import harmony_core.training
from harmony_core.model import HarmonyTransformer
from harmony_core.presets import preset
from harmony_core.training.start import TrainedModel

FOLDER = Path(harmony_core.training.__file__).parent / "launch"
SHARDED = ["fsdp2_8", "four_nodes"]


def load(name: str) -> ClusterConfig:
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig)
    return config


@pytest.mark.parametrize(
    ("name", "kind", "machines", "processes"),
    [
        ("one_card", "NO", 1, 1),
        ("fsdp2_8", "FSDP", 1, 8),
        ("zero3_8", "DEEPSPEED", 1, 8),
        ("four_nodes", "FSDP", 4, 32),
    ],
)
def test_accelerate_knows_every_setting(name: str, kind: str, machines: int, processes: int) -> None:
    """Of the keys in a section accelerate itself drops what it does not know."""
    config = load(name)
    assert (config.distributed_type.value, config.num_machines, config.num_processes) == (kind, machines, processes)
    assert config.mixed_precision == "no"
    known = {action.dest for action in launch_command_parser()._actions}
    assert (config.fsdp_config | config.deepspeed_config).keys() <= known
    assert config.deepspeed_config.get("zero_stage") == (3 if kind == "DEEPSPEED" else None)


@pytest.mark.parametrize("name", SHARDED)
def test_every_block_and_interaction_is_a_unit(name: str) -> None:
    settings = load(name).fsdp_config
    assert settings["fsdp_version"] == 2
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy=settings["fsdp_auto_wrap_policy"],
        transformer_cls_names_to_wrap=settings["fsdp_transformer_layer_cls_to_wrap"].split(","),
    )
    with torch.device("meta"):
        model = TrainedModel(HarmonyTransformer(preset("harmony-5b"), device="meta"), None)
    policy = fsdp2_prepare_auto_wrap_policy(plugin, model)
    assert policy is not None
    units = [module for module in model.modules() if policy(module)]
    assert len(units) == 3 * preset("harmony-5b").num_layers
    inside = sum(parameter.numel() for unit in units for parameter in unit.parameters())
    assert inside > 0.97 * sum(parameter.numel() for parameter in model.parameters())
