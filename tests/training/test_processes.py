"""Training shared by two processes, as `torchrun --nproc_per_node 2` starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml

from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.training.muon import orthogonalize, orthogonalize_shared

from .small_runs import SMALL

SHAPES = (5, 4, 7), (1, 6, 3)  # an odd number of matrices, and fewer than there are processes


def matrices() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def share(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save([orthogonalize_shared(each) for each in matrices()], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_sharing_the_matrices_changes_nothing(tmp_path: Path):
    mp.spawn(share, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        for alone, shared in zip(matrices(), torch.load(tmp_path / f"{rank}.pt"), strict=True):
            torch.testing.assert_close(shared, orthogonalize(alone))


def launch(folder: Path, processes: int = 2, **changes) -> subprocess.CompletedProcess[str]:
    config = folder / "small.yaml"
    config.write_text(yaml.safe_dump(SMALL | changes))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    command += ["-m", "harmony_core", "train", "--config", str(config), "--output", str(folder / "run")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_two_processes_train_one_checkpoint(tmp_path: Path):
    done = launch(tmp_path, batch_size=8)
    assert done.returncode == 0, done.stderr[-2000:]
    pipeline = HarmonyPipeline.from_file(tmp_path / "run" / "checkpoint.safetensors")
    assert (pipeline.model_card["batch_size"], pipeline.model_card["processes"]) == (8, 2)
    assert pipeline.model_card["clips"] == SMALL["data"]["clips"]
    pipeline(GenerateRequest(prompt="a red ball bounces on wood", steps=1))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    (tmp_path / "alone").mkdir()
    done = launch(tmp_path / "alone", processes=1, batch_size=8)
    assert done.returncode == 0, done.stderr[-2000:]
    alone = [json.loads(line) for line in (tmp_path / "alone" / "run" / "log.jsonl").read_text().splitlines()]
    for one, other in zip(lines, alone, strict=True):
        losses = [{name: value for name, value in each.items() if "/" in name} for each in (one, other)]
        assert len(losses[0]) == 8
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_batch_that_cannot_be_shared_is_an_error(tmp_path: Path):
    done = launch(tmp_path, batch_size=3)
    assert done.returncode != 0
    assert "batch_size is 3, which 2 processes cannot share evenly" in done.stderr
