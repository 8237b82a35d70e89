"""The shipped settings of `accelerate launch`."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

import harmony_core.training
from harmony_core.training.sharding import take_sharding

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
def test_what_the_launcher_hands_on_shares_out_the_weights(name: str) -> None:
    arguments = launch_command_parser().parse_args(["--config_file", str(FOLDER / f"{name}.yaml"), "script.py"])
    arguments, *_ = _validate_launch_command(arguments)
    environment = prepare_multi_gpu_env(arguments)
    assert take_sharding(environment)
    assert "ACCELERATE_USE_FSDP" not in environment
