"""Device time of each Triton kernel at the shapes of `harmony-5b`, beside what the card's bandwidth allows.

    python -m benchmarks.kernels [--seconds 5.04 20] [--output benchmarks/kernels.csv]

torch's profiler times the kernels themselves, launches left out; a row is the median of the rounds. `floor_us` is the
fewest bytes (every input read once, every output written once) over the bandwidth of a large copy, measured first.
Needs a CUDA device; ROOFLINE.md has the counts that were made before there was one.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from harmony_core.benchmarks.ops import directions
from harmony_core.benchmarks.timing import append_csv, call_way, machine
from harmony_core.model.rope import to_device, video_rope
from harmony_core.ops import registry
from harmony_core.presets import preset

ROUNDS = 20
CLIP_SECONDS = 121 / 24
OURS = ("framewise_attention", "qk_norm_rope")


def kernel_times(call: Callable[[], object], rounds: int = ROUNDS) -> dict[str, float]:
    """Median device microseconds a call of each kernel of ours, by name."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(rounds):
            call()
        torch.cuda.synchronize()
    found: dict[str, list[float]] = defaultdict(list)
    for event in profiler.events():
        if event.name.startswith(OURS):
            found[event.name].append(event.device_time_total)
    return {name: statistics.median(times) for name, times in found.items()}


def copy_bandwidth() -> float:
    """GB/s of a large copy on the device, bytes read and written."""
    source = torch.randn(1 << 28, device="cuda")  # 1 GiB, twenty times the L2 of an H100
    target = torch.empty_like(source)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(3):
        target.copy_(source)
    start.record()
    for _ in range(10):
        target.copy_(source)
    end.record()
    torch.cuda.synchronize()
    return 10 * 2 * source.nbytes / (start.elapsed_time(end) / 1e3) / 1e9


def megabytes(*tensors: Tensor) -> float:
    return sum(x.nbytes for x in tensors) / 1e6


def framewise(seconds: float) -> list[tuple[str, str, float, float]]:
    """(kernel, direction, microseconds, fewest megabytes) of attention over the windows, both directions."""
    config, rows = preset("harmony-5b"), []
    for direction, (groups, queries, keys, tables) in directions(seconds, config).items():
        shapes = [(1, n, config.num_heads, config.head_dim) for n in (queries, keys, keys)]
        inputs = [torch.randn(shape, device="cuda", dtype=torch.bfloat16).requires_grad_() for shape in shapes]
        rope_q, rope_k = (to_device(table, torch.device("cuda")) for table in tables)
        way = partial(registry.framewise_attention, groups=groups, rope_q=rope_q, rope_k=rope_k)
        q, k, v = inputs
        angles = (*rope_q, *rope_k)
        bytes_of = {
            "framewise_attention_fwd_kernel": megabytes(q, k, v, q, *angles),
            "framewise_attention_bwd_kernel_dq": megabytes(q, k, v, q, q, q, *angles),
            "framewise_attention_bwd_kernel_dkv": megabytes(q, k, v, q, k, v, *angles),
        }
        for kernel, us in kernel_times(partial(call_way, way, inputs, "backward")).items():
            rows.append((kernel, direction, us, bytes_of[kernel]))
    return rows


def qk_norm_rope(seconds: float) -> list[tuple[str, str, float, float]]:
    """The same of the norm and rotation of self-attention's q and k."""
    config = preset("harmony-5b")
    frames = (round(seconds * 24) - 1) // config.temporal_stride + 1
    rope = to_device(video_rope(frames, config.height // 32, config.width // 32, config), torch.device("cuda"))
    length = rope[0].shape[-2]
    shapes = ((1, length, config.dim), (1, length, config.dim), (config.dim,), (config.dim,))
    inputs = [torch.randn(shape, device="cuda", dtype=torch.bfloat16).requires_grad_() for shape in shapes]
    way = partial(registry.qk_norm_rope, num_heads=config.num_heads, rope=rope, eps=config.eps)
    q, k = inputs[:2]
    bytes_of = {
        "qk_norm_rope_fwd_kernel": megabytes(q, k, q, k, *rope),
        "qk_norm_rope_bwd_kernel": megabytes(q, k, q, k, q, k, *rope),
    }
    times = kernel_times(partial(call_way, way, inputs, "backward"))
    return [(kernel, "", us, bytes_of[kernel]) for kernel, us in times.items()]


def table(lengths: list[float]) -> list[dict[str, Any]]:
    bandwidth, where = copy_bandwidth(), machine(torch.device("cuda"))
    rows = []
    for seconds in lengths:
        for kernel, direction, us, fewest in (*framewise(seconds), *qk_norm_rope(seconds)):
            floor = fewest / bandwidth * 1e3
            rows.append(
                {
                    "kernel": kernel,
                    "direction": direction,
                    "clip_seconds": round(seconds, 2),
                    "us": round(us, 1),
                    "fewest_mb": round(fewest, 1),
                    "floor_us": round(floor, 1),
                    "of_floor": round(us / floor, 2),
                    "copy_gb_s": round(bandwidth),
                    **where,
                }
            )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, nargs="+", default=[CLIP_SECONDS, 20.0])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    measured = table(arguments.seconds)
    for row in measured:
        print("{kernel:36} {direction:4} {clip_seconds:6} s {us:9.1f} us  floor {floor_us:8.1f} us".format(**row))
    if arguments.output:
        append_csv(arguments.output, measured)
