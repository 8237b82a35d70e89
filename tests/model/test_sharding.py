"""What training wraps a block in: FSDP2 and activation checkpointing, in two processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from packaging.version import Version

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    Version(torch.__version__) < Version("2.9"), reason="before torch 2.9, FSDP2 on CPUs sums gradients, not averages"
)
def test_fsdp2_and_recomputing_change_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.model.sharded_blocks"]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(printed)
    assert all(each.strip().endswith("ok") for each in printed)
