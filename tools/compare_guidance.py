"""SyncCFG, isolation (LTX's modality guidance) and text CFG beside each other, each for the same number of passes.

    python -m tools.compare_guidance embedded [--scenes 24] [--output benchmarks/guidance.csv]

The embedded checkpoint on held-out scenes of the toy world. Rows are appended way by way; a run that was broken off
goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from harmony_core.benchmarks.guidance import BUDGETS, compare
from harmony_core.benchmarks.quality import read_rows
from harmony_core.benchmarks.timing import append_csv
from harmony_core.pipelines import HarmonyPipeline


def run_embedded(arguments: argparse.Namespace) -> None:
    """Append the rows that are not there yet."""
    torch.set_num_threads(arguments.threads)
    output = arguments.output
    rows = read_rows([output]) if output.exists() else []
    done = {(row["way"], int(row["budget"]), int(row["seed"])) for row in rows}
    pipeline = HarmonyPipeline.from_file(arguments.model)

    def told(way: str, scene: int) -> None:
        print(f"scenes from {scene}: {way}", flush=True)

    for made in compare(pipeline, arguments.scenes, arguments.budget or BUDGETS, done, progress=told):
        append_csv(output, made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    embedded = commands.add_parser("embedded", help="the embedded checkpoint on the toy world")
    embedded.add_argument("--scenes", type=int, default=24)
    embedded.add_argument("--budget", type=int, action="append", help="passes a clip; may be repeated")
    embedded.add_argument("--model", default="harmony-tiny")
    embedded.add_argument("--threads", type=int, default=1)
    embedded.add_argument("--output", type=Path, default=Path("benchmarks/guidance.csv"))
    embedded.set_defaults(run=run_embedded)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
