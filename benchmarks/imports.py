"""Seconds that ComfyUI waits for this pack's import, beyond torch and ComfyUI itself.

    python -m benchmarks.imports [--repeats 9] [--output benchmarks/imports.csv]

Each repeat is a fresh process of ComfyUI's own interpreter (tests/host/inside/imports.py), with bytecode from the
repeat before it. `cpu` is the process's own time, which other work on the machine changes less than `wall`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

import torch

from harmony_core.benchmarks.timing import append_csv, machine, percentiles
from tools.comfyui.install import REPOSITORY, ensure_python, ensure_tree, wanted_trees

SCRIPT = REPOSITORY / "tests" / "host" / "inside" / "imports.py"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the import of the node pack.")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "imports.csv")
    arguments = parser.parse_args()
    tree = ensure_tree(wanted_trees()[-1])
    command = [str(ensure_python(tree)), str(SCRIPT), str(tree)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    runs = []
    for _ in range(arguments.repeats + 1):
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for clock in ("wall", "cpu"):
        seconds = percentiles([(run[clock], 0.0) for run in runs[1:]])
        del seconds["peak_mb"]
        rows.append(
            {
                "name": "node_pack_import",
                "clock": clock,
                **seconds,
                **machine(torch.device("cpu")),
                "torch": runs[0]["torch"],
            }
        )
        print(f"{clock}: {seconds['seconds_p50']:.3f} s")
    arguments.output.unlink(missing_ok=True)
    append_csv(arguments.output, rows)


if __name__ == "__main__":
    main()
