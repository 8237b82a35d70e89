"""Benchmarks' common parts: ways to do the same taking turns, comparisons, and rows for a CSV."""

from __future__ import annotations

import csv
import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .. import __version__


class Meter:
    """Seconds and peak megabytes of a call on one device. Memory off CUDA is Linux's (0 elsewhere)."""

    def __init__(self, device: torch.device) -> None:
        self.is_cuda = device.type == "cuda"

    def __call__(self, call: Callable[[], object], fresh: bool = False) -> tuple[float, float]:
        """`fresh`: give free memory back first, or what the call reuses of it does not count. That costs time."""
        if fresh:
            self._release()
        before = self._start()
        start = time.perf_counter()
        result = call()
        if self.is_cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        del result
        return seconds, max(self._peak() - before, 0) / 2**20

    def _release(self) -> None:
        gc.collect()
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL("libc.so.6").malloc_trim(0)

    def _start(self) -> int:
        if self.is_cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        if platform.system() == "Linux":
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        return self._status("VmRSS")

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.is_cuda else self._status("VmHWM")

    @staticmethod
    def _status(name: str) -> int:
        if platform.system() != "Linux":
            return 0
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def take_turns(ways: Mapping[str, Callable[[], object]], repeats: int, meter: Meter) -> dict[str, dict[str, float]]:
    """Seconds (20th, 50th and 80th percentile) of each way, and its peak megabytes in a round to warm up.

    Raises:
        ValueError: fewer than one repeat.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}, but must be 1 or more.")
    peaks = {name: meter(way, fresh=True)[1] for name, way in ways.items()}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            found[name].append(meter(way)[0])
    return {name: percentiles([(seconds, peaks[name]) for seconds in results]) for name, results in found.items()}


def percentiles(results: list[tuple[float, float]]) -> dict[str, float]:
    """Percentiles of (seconds, megabytes) as columns of a row."""
    seconds = [result[0] for result in results]
    fifths = statistics.quantiles(seconds, n=5, method="inclusive") if len(seconds) > 1 else seconds * 4
    return {
        "seconds_p20": round(fifths[0], 6),
        "seconds_p50": round(statistics.median(seconds), 6),
        "seconds_p80": round(fifths[3], 6),
        "peak_mb": round(statistics.median(result[1] for result in results), 1),
        "repeats": len(results),
    }


def comparison(name: str, ours: float, peer: float, unit: str) -> dict[str, Any]:
    """One line of `--json`: ratio = ours / peer."""
    return {"name": name, "ours": round(ours, 6), "peer": round(peer, 6), "ratio": round(ours / peer, 4), "unit": unit}


def call_way(way: Callable[..., Any], inputs: list[torch.Tensor], mode: str) -> None:
    """Run it `forward` without gradients, or forward and `backward` to `inputs`."""
    if mode == "forward":
        with torch.inference_mode():
            way(*(x.detach() for x in inputs))  # FlexAttention on CPU takes nothing that needs a gradient
        return
    made = way(*inputs)
    outputs = made if isinstance(made, tuple) else (made,)
    torch.autograd.grad(outputs, inputs, [torch.ones_like(out) for out in outputs])


def time_ways(
    ways: Mapping[str, Callable[..., Any]], inputs: list[torch.Tensor], mode: str, repeats: int
) -> dict[str, dict[str, float]]:
    """`take_turns` of ways that take the same tensors."""
    calls = {name: partial(call_way, way, inputs, mode) for name, way in ways.items()}
    return take_turns(calls, repeats, Meter(inputs[0].device))


MACHINE = ("device", "threads", "torch", "python", "harmony")  # what `machine` says


def machine(device: torch.device) -> dict[str, Any]:
    """What ran it: device, threads and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device.type} {name}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "harmony": __version__,
    }


def append_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append rows, with a header if the file is new or empty."""
    is_new = not path.exists() or path.stat().st_size == 0
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        if is_new:
            writer.writeheader()
        writer.writerows(rows)
