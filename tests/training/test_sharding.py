"""Weights shared out by FSDP2 on two processes, beside one process that holds them all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from harmony_core.checkpoints.bundle import TRANSFORMER
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.presets import preset
from harmony_core.training.adapters import LoraConfig
from harmony_core.training.config import TrainingConfig
from harmony_core.training.sections import DataConfig, ObjectiveConfig, OptimizerConfig, StartConfig
from harmony_core.training.sharding import check_passes, check_sharing, take_sharding
from harmony_core.training.state import read_average
from harmony_core.training.tasks import check_batch
from harmony_core.training.trainer import run

from .small_runs import SMALL
from .test_own_clips import lines, write

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def run_shared(folder: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m"]
    done = subprocess.run(
        [*command, "tests.training.sharded_runs", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def runs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the same runs, by one process and by two that share weights out."""
    alone, shared = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("shared")
    prompts = alone / "prompts.jsonl"
    prompts.write_text('{"prompt": "a red ball bounces on metal", "steps": 2, "seed": 3}\n')
    lora = {
        "lora": {"rank": 4},
        "frozen": "float8",
        "activation_checkpointing": True,
        "batch_size": 4,
        "accumulation": 2,
        "data": {"shards": str(shards), "validation": 1},
        "samples": {"prompts": str(prompts)},
    }
    sound = {"kind": "audio", "reference": "same_clip", "reference_share": 1, "reference_latents": [4, 8]}
    gently = {"kind": "adamw", "adamw_lr": 1e-4, "warmup_steps": 1, "decay_share": 0, "ema": 0}
    lora["optimizer"] = gently  # whose steps do not enlarge what is rounded otherwise
    stopped = {"batch_size": 4, "objective": {"reference_share": 0, "stop_drivers": True}, "optimizer": gently}
    for folder in (alone, shared):
        (folder / "full.yaml").write_text(yaml.safe_dump(SMALL | {"batch_size": 8, "keep": 2}))
        write(folder / "lora.yaml", shards, **lora)
        write(folder / "stopped_drivers.yaml", shards, **stopped)
        write(folder / "sound.yaml", shards, train="audio", objective=sound, precision="bfloat16")
    for config in sorted(alone.glob("*.yaml")):
        AcceleratorState._reset_state()
        run(config, config.with_suffix(""), resume=False)
    AcceleratorState._reset_state()
    run_shared(shared)
    return alone, shared


@pytest.mark.parametrize(
    ("name", "tolerance"), [("full", 1e-5), ("lora", 1e-5), ("sound", 1e-2), ("stopped_drivers", 1e-5)]
)
def test_losses_and_gradients_are_those_of_one_process(runs: tuple[Path, Path], name: str, tolerance: float) -> None:
    alone, shared = (
        [
            {key: value for key, value in line.items() if "/" in key and "samples" not in key}
            for line in lines(at / name)
        ]
        for at in runs
    )
    assert alone
    for one, other in zip(alone, shared, strict=True):
        assert other == pytest.approx(one, rel=tolerance, abs=1e-7)
    assert any(key.startswith("validation/") for line in shared for key in line) == (name == "lora")


@pytest.mark.parametrize(
    ("name", "file", "tolerance"),
    # AdamW makes steps of one size of gradients that are next to nothing, whichever way they are rounded.
    [("full", "checkpoint", 1e-5), ("lora", "lora", 1e-3), ("sound", "checkpoint", 2e-2)],
)
def test_one_file_of_whole_weights_is_left(runs: tuple[Path, Path], name: str, file: str, tolerance: float) -> None:
    alone, shared = (load_file(folder / name / f"{file}.safetensors") for folder in runs)
    assert {key: each.shape for key, each in alone.items()} == {key: each.shape for key, each in shared.items()}
    floats = [key for key, each in alone.items() if each.is_floating_point()]
    one, other = (torch.cat([each[key].flatten().double() for key in floats]) for each in (alone, shared))
    assert (other - one).norm() < tolerance * one.norm()


def test_the_file_and_the_samples_make_clips(runs: tuple[Path, Path]) -> None:
    alone, shared = runs
    request = GenerateRequest(prompt="a red ball bounces on metal", steps=2)
    clips = [HarmonyPipeline.from_file(folder / "full" / "checkpoint.safetensors")(request) for folder in runs]
    torch.testing.assert_close(clips[1].latents_video, clips[0].latents_video, atol=1e-4, rtol=1e-3)
    for step in (0, 3):
        latents = [
            load_file(folder / "lora" / "samples" / f"step-{step:08}" / "latents.safetensors") for folder in runs
        ]
        torch.testing.assert_close(latents[1], latents[0], atol=1e-4, rtol=1e-3)
    assert len(list((shared / "lora" / "samples").glob("*/*.mp4"))) == len(
        list((alone / "lora").glob("samples/*/*.mp4"))
    )


def test_every_process_writes_its_part_and_goes_on_from_it(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """From the state in the middle, the end is the same to the bit."""
    _, shared = runs
    states = sorted((shared / "full").glob("state-*"))
    assert [state.name for state in states] == ["state-00000003", "state-00000006"]
    parts = sorted((states[-1] / "tensors").glob("*.distcp"))
    assert len(parts) == 2
    assert parts[0].stat().st_size < 2 * parts[1].stat().st_size < 4 * parts[0].stat().st_size
    shutil.copy(shared / "full.yaml", tmp_path)
    shutil.copytree(shared / "full", tmp_path / "full")
    shutil.rmtree(tmp_path / "full" / "state-00000006")
    (tmp_path / "full" / "checkpoint.safetensors").unlink()
    run_shared(tmp_path)
    one, other = (load_file(folder / "full" / "checkpoint.safetensors") for folder in (shared, tmp_path))
    assert all(torch.equal(one[key], other[key]) for key in one)
    average = read_average(tmp_path / "full" / "state-00000006")
    key = "blocks.0.ffn.0.weight"
    assert torch.equal(average[f"transformer.{key}"].half(), one[f"{TRANSFORMER}{key}"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"FSDP_VERSION": "1"}, "FSDP version 1, but FSDP2 shares weights here; set fsdp_version to 2"),
        ({"FSDP_RESHARD_AFTER_FORWARD": "false"}, "fsdp_reshard_after_forward to false, but .*; set it to true"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params to true, but weights stay on the device"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "training config's activation_checkpointing does it"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, "every process reads the weights itself"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "set to DeepSpeed, but weights are shared out by FSDP2"),
    ],
)
def test_what_is_not_honoured_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        take_sharding(FSDP2 | changes)


def test_accelerate_is_not_asked_as_well() -> None:
    environment = dict(FSDP2)
    assert take_sharding(environment)
    assert not take_sharding(environment)


def test_every_part_of_a_batch_reaches_all_weights() -> None:
    objective = ObjectiveConfig(kind="split_batch", audio_driven_share=0.25, video_driven_share=0.25)
    config = TrainingConfig(steps=1, batch_size=8, preset="harmony-tiny", accumulation=2, objective=objective)
    check_batch(config, 2)
    with pytest.raises(ValueError, match="accumulation is 3, but one of 2 processes has only 2 joint clips"):
        check_batch(replace(config, accumulation=3), 2)


@pytest.mark.parametrize(
    ("changes", "processes", "message"),
    [
        ({}, 1, "set to FSDP, but there is 1 process, with nobody to share with; start more"),
        ({"optimizer": OptimizerConfig(kind="adamw_8bit")}, 2, "whose moments cannot be shared out"),
        ({"lora": LoraConfig(), "frozen": "float8", "frozen_on": "host"}, 2, "frozen_on is host"),
    ],
)
def test_what_cannot_be_shared_is_refused(changes: dict, processes: int, message: str) -> None:
    config = TrainingConfig(
        steps=1, batch_size=2, start=StartConfig(model="harmony-tiny"), data=DataConfig(shards="x"), **changes
    )
    with pytest.raises(ValueError, match=message):
        check_sharing(config, processes)


def test_voices_of_several_lengths_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="voices of several lengths"):
        check_passes(preset("uniavgen"), ObjectiveConfig(reference_share=0.5))
    check_passes(preset("uniavgen"), ObjectiveConfig(reference_share=0))
    check_passes(preset("harmony-tiny"), ObjectiveConfig(reference_share=0.5))


def test_what_is_refused_leaves_no_folder(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in FSDP2.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="there is 1 process"):
        run(write(tmp_path / "a.yaml", shards), tmp_path / "run", resume=False)
    assert not (tmp_path / "run").exists()
