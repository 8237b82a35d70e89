"""Thousands of hostile cases: `python -m tests.robustness.fuzz --cases 5000 --seed 0 --processes 2`.

A fault is named by its kind and number, with which it is made again: `--only KIND:NUMBER`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch

from . import command_cases, media_cases, text_cases, weight_cases
from .watch import Outcome, watched

CASES = media_cases.CASES | weight_cases.CASES | text_cases.CASES | command_cases.CASES
SHARES = {
    "film": 4,
    "picture": 3,
    "weights": 4,
    "bundle": 2,
    "index": 2,
    "command": 2,
}  # of kinds with more ways to go wrong; others have one


def names(cases: int, seed: int) -> list[str]:
    """KIND:SEED:NUMBER of each case, the kinds in turn."""
    turn = [kind for kind in CASES for _ in range(SHARES.get(kind, 1))]
    return [f"{turn[number % len(turn)]}:{seed}:{number}" for number in range(cases)]


def run_case(name: str) -> tuple[str, Outcome]:
    folder = Path(tempfile.mkdtemp(prefix="harmony-fuzz-")).resolve()
    try:
        return name, watched(CASES[name.partition(":")[0]], name, folder / "case")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start_worker() -> None:
    """A forked child must find no threads of torch's."""
    torch.set_num_threads(1)


def run_all(wanted: list[str], processes: int) -> Iterator[tuple[str, Outcome]]:
    start_worker()
    if processes == 1:
        yield from map(run_case, wanted)
        return
    with multiprocessing.get_context("spawn").Pool(processes, start_worker) as pool:
        yield from pool.imap_unordered(run_case, wanted, chunksize=4)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", help="one case by its name")
    arguments = parser.parse_args()
    wanted = [arguments.only] if arguments.only else names(arguments.cases, arguments.seed)
    started = time.monotonic()
    counts: dict[str, Counter] = defaultdict(Counter)
    worst: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    faults = []
    for done, (name, outcome) in enumerate(run_all(wanted, arguments.processes), 1):
        kind = name.partition(":")[0]
        counts[kind][outcome.status] += 1
        worst[kind] = max(worst[kind][0], outcome.seconds), max(worst[kind][1], outcome.held)
        if outcome.status == "fault":
            faults.append(name)
            print(f"FAULT {name}: {outcome.text}", flush=True)
        if arguments.only:
            print(f"{outcome.status}: {outcome.text}")
        if done % 500 == 0:
            print(f"{done} of {len(wanted)}, {len(faults)} faults, {time.monotonic() - started:.0f} s", flush=True)
    print(f"{'kind':10} {'read':>6} {'refused':>8} {'faults':>7} {'slowest s':>10} {'most MB':>8}")
    for kind, found in counts.items():
        seconds, held = worst[kind]
        print(
            f"{kind:10} {found['read']:6} {found['refused']:8} {found['fault']:7} {seconds:10.1f} {held / 2**20:8.0f}"
        )
    print(json.dumps({"cases": len(wanted), "faults": faults, "seconds": round(time.monotonic() - started)}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
