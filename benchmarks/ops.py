"""Time and peak memory of the ops beside other ways to do the same, over clip lengths.

    python benchmarks/ops.py                  # CPU: a 720p layout at a fraction of the width
    python benchmarks/ops.py --quick          # under a minute: what `--json` prints, and no more
    python benchmarks/ops.py --device cuda    # a GPU: harmony-5b's width, bfloat16, FlexAttention as well

`ours` is what the registry picks on the device. `global` is one masked scaled_dot_product_attention, `naive` the same
as a formula, `flex` torch's compiled FlexAttention with a block mask. Every way gets the same q, k, v and RoPE tables,
rotation included, and takes turns with the others in one process. `backward` is forward and backward. Ways that would
need more than the memory limit are left out. `--json` prints an object per comparison: ratio = ours / peer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from harmony_core.config import HarmonyConfig, preset  # noqa: E402
from harmony_core.evaluation.bench import append_csv, machine  # noqa: E402
from harmony_core.geometry import ClipGeometry, a2v_windows, group_windows, v2a_windows  # noqa: E402
from harmony_core.model.rope import cross_rope, to_device, video_rope  # noqa: E402
from harmony_core.ops import registry  # noqa: E402
from harmony_core.ops.framewise_attention.naive import framewise_attention_naive, window_mask  # noqa: E402
from harmony_core.ops.rope import apply_rope  # noqa: E402

LENGTHS_S = (2, 5, 10, 20, 40, 60)
QUICK_LENGTHS_S = (2, 20)


def masked_global(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, rope_q, rope_k) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (apply_rope(q, rope_q), apply_rope(k, rope_k), v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def flex_way(groups, num_queries: int, num_keys: int, device: torch.device) -> Callable:
    """FlexAttention with the windows as a block mask, made beforehand."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    rows = torch.tensor(groups, device=device)
    starts, ends = (column.repeat_interleave(rows[:, 1] - rows[:, 0]) for column in (rows[:, 2], rows[:, 3]))

    def seen(_batch, _head, query, key):
        return (key >= starts[query]) & (key < ends[query])

    block_mask = torch.compile(create_block_mask)(seen, None, None, num_queries, num_keys, device=device)

    def run(q: Tensor, k: Tensor, v: Tensor, rope_q, rope_k) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (apply_rope(q, rope_q), apply_rope(k, rope_k), v))
        return flex_attention(q, k, v, block_mask=block_mask).transpose(1, 2)

    return torch.compile(run, dynamic=False)


def directions(seconds: float, config: HarmonyConfig) -> dict[str, tuple]:
    """Per direction: groups, number of queries and of keys, RoPE tables."""
    clip = ClipGeometry.from_seconds(seconds, config.fps, config.height, config.width, config)
    frames, num_audio = clip.num_latent_frames, clip.num_audio_latents
    tokens = clip.latent_height * clip.latent_width // (config.patch_size[1] * config.patch_size[2])
    tables = cross_rope(frames, tokens, num_audio, config)
    a2v = tuple(
        (i * tokens, (i + 1) * tokens, *window) for i, window in enumerate(a2v_windows(frames, num_audio, config))
    )
    v2a = tuple(
        (first, last, start * tokens, end * tokens)
        for first, last, start, end in group_windows(v2a_windows(frames, num_audio, config))
    )
    return {
        "a2v": (a2v, frames * tokens, num_audio, tables["a2v"]),
        "v2a": (v2a, num_audio, frames * tokens, tables["v2a"]),
    }


class Meter:
    """Seconds and peak megabytes of a call on one device."""

    def __init__(self, device: torch.device) -> None:
        self.is_cuda = device.type == "cuda"

    def __call__(self, call: Callable[[], object]) -> tuple[float, float]:
        before = self._start()
        start = time.perf_counter()
        result = call()
        if self.is_cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        del result
        return seconds, (self._peak() - before) / 2**20

    def _start(self) -> int:
        if self.is_cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from here
        return self._status("VmRSS")

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.is_cuda else self._status("VmHWM")

    @staticmethod
    def _status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def measure(ways: dict[str, Callable], inputs: list[Tensor], mode: str, meter: Meter, rounds: int) -> dict[str, dict]:
    """Medians over `rounds`, the ways taking turns, after one round to warm up."""

    def call(way: Callable) -> None:
        if mode == "forward":
            with torch.inference_mode():
                way(*inputs)
        else:
            outputs = way(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            torch.autograd.grad(outputs, inputs, [torch.ones_like(out) for out in outputs])

    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            result = meter(partial(call, way))
            if turn:
                found[name].append(result)
    rows = {}
    for name, results in found.items():
        seconds = sorted(result[0] for result in results)
        fifths = statistics.quantiles(seconds, n=5, method="inclusive")
        rows[name] = {
            "seconds_p20": round(fifths[0], 6),
            "seconds_p50": round(statistics.median(seconds), 6),
            "seconds_p80": round(fifths[3], 6),
            "peak_mb": round(statistics.median(result[1] for result in results), 1),
        }
    return rows


def framewise_rows(config: HarmonyConfig, lengths: tuple, modes: tuple, options, dtype: torch.dtype) -> list[dict]:
    device, rows = torch.device(options.device), []
    heads, head_dim = config.num_heads, config.head_dim
    for seconds in lengths:
        for direction, (groups, queries, keys, tables) in directions(seconds, config).items():
            inputs = [
                torch.randn(1, n, heads, head_dim, device=device, dtype=dtype).requires_grad_()
                for n in (queries, keys, keys)
            ]
            rope_q, rope_k = (to_device(table, device) for table in tables)
            ropes = {"rope_q": rope_q, "rope_k": rope_k}
            ways = {"ours": partial(registry.framewise_attention, groups=groups, **ropes)}
            limit = options.memory_gb * 2**30
            if queries * keys * 8 <= limit:
                mask = window_mask(groups, queries, keys, device)
                ways["global"] = partial(masked_global, mask=mask, **ropes)
            if queries * keys * heads * 16 <= limit and not options.quick:
                ways["naive"] = partial(framewise_attention_naive, groups=groups, **ropes)
            if device.type == "cuda":
                ways["flex"] = partial(flex_way(groups, queries, keys, device), **ropes)
            for mode in modes:
                for way, measured in measure(ways, inputs, mode, Meter(device), options.rounds).items():
                    rows.append(
                        {
                            "op": "framewise_attention",
                            "direction": direction,
                            "mode": mode,
                            "way": way,
                            "clip_seconds": seconds,
                            "queries": queries,
                            "keys": keys,
                            "heads": heads,
                            "head_dim": head_dim,
                            "dtype": str(dtype).removeprefix("torch."),
                            **measured,
                        }
                    )
    return rows


def qk_norm_rope_rows(config: HarmonyConfig, modes: tuple, options, dtype: torch.dtype) -> list[dict]:
    """Self-attention's q and k of a five-second clip."""
    device = torch.device(options.device)
    tokens_high, tokens_wide = config.height // 32, config.width // 32
    frames = 31 if device.type == "cuda" else 7
    length, dim = frames * tokens_high * tokens_wide, config.dim
    shapes = ((1, length, dim), (1, length, dim), (dim,), (dim,))
    inputs = [torch.randn(shape, device=device, dtype=dtype).requires_grad_() for shape in shapes]
    rope = to_device(video_rope(frames, tokens_high, tokens_wide, config), device)
    rest = {"num_heads": config.num_heads, "rope": rope, "eps": config.eps}
    names = ("torch", "naive")
    ways = {"ours": partial(registry.qk_norm_rope, **rest)} | {
        name: partial(registry.implementation("qk_norm_rope", name), **rest) for name in names
    }
    shape = {"queries": length, "keys": length, "heads": config.num_heads, "head_dim": config.head_dim}
    return [
        {
            "op": "qk_norm_rope",
            "direction": "",
            "mode": mode,
            "way": way,
            "clip_seconds": "",
            **shape,
            "dtype": str(dtype).removeprefix("torch."),
            **measured,
        }
        for mode in modes
        for way, measured in measure(ways, inputs, mode, Meter(device), options.rounds).items()
    ]


def comparisons(rows: list[dict]) -> list[dict]:
    """`framewise_20s` and its relatives (both directions together), growth with the clip, and the norm."""

    def total(column: str, op: str = "framewise_attention", **wanted) -> float | None:
        found = [r for r in rows if r["op"] == op and all(r[key] == value for key, value in wanted.items())]
        return sum(row[column] for row in found) if found else None

    result = []

    def add(name: str, ours: float | None, peer: float | None, unit: str) -> None:
        if ours is not None and peer:
            values = {"ours": round(ours, 6), "peer": round(peer, 6), "ratio": round(ours / peer, 4)}
            result.append({"name": name, **values, "unit": unit})

    for suffix, column, unit in (("", "seconds_p50", "s"), ("_memory", "peak_mb", "MB")):
        for mode in ("forward", "backward"):
            for peer in ("global", "naive", "flex"):
                name = "framewise_20s" + ("" if mode == "forward" else "_backward") + suffix
                name += "" if peer == "global" else f"_vs_{peer}"
                at = {"mode": mode, "clip_seconds": 20}
                add(name, total(column, way="ours", **at), total(column, way=peer, **at), unit)
    lengths = sorted({row["clip_seconds"] for row in rows if row["op"] == "framewise_attention"})
    shortest, longest = (
        total("seconds_p50", mode="forward", way="ours", clip_seconds=x) for x in (lengths[0], lengths[-1])
    )
    # Linear in the clip: the time grows no more than the length does.
    add(f"framewise_growth_{lengths[0]}s_to_{lengths[-1]}s", longest / shortest, lengths[-1] / lengths[0], "times")
    for mode in ("forward", "backward"):
        ours, peer = (total("seconds_p50", op="qk_norm_rope", mode=mode, way=way) for way in ("ours", "naive"))
        add(f"qk_norm_rope_{mode}", ours, peer, "s")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--heads", type=int, help="default: 1 on CPU, 24 elsewhere")
    parser.add_argument("--head-dim", type=int, help="default: 32 on CPU, 128 elsewhere")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-gb", type=float, default=4.0, help="leave out ways that need more")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", help="print comparisons as JSON lines")
    parser.add_argument("--output", type=Path, help="append all rows to this csv")
    options = parser.parse_args()
    on_cpu = options.device == "cpu"
    heads, head_dim = options.heads or (1 if on_cpu else 24), options.head_dim or (32 if on_cpu else 128)
    config = preset("harmony-5b").with_(dim=heads * head_dim, num_heads=heads)
    dtype = torch.float32 if on_cpu else torch.bfloat16
    modes = ("forward",) if options.quick else ("forward", "backward")
    if options.quick:
        options.rounds = min(options.rounds, 3)
    lengths = QUICK_LENGTHS_S if options.quick else LENGTHS_S
    rows = framewise_rows(config, lengths, modes, options, dtype) + qk_norm_rope_rows(config, modes, options, dtype)
    rows = [row | {"rounds": options.rounds, **machine(torch.device(options.device))} for row in rows]
    if options.output:
        append_csv(options.output, rows)
    for comparison in comparisons(rows):
        if options.json:
            print(json.dumps(comparison))
        else:
            print("{name}: ours {ours:g}, peer {peer:g} {unit}, ratio {ratio:g}".format(**comparison))


if __name__ == "__main__":
    main()
