"""Time and peak memory of the ops beside other ways to do the same, over clip lengths.

`ours` is what the registry picks on the device. `global` is one masked scaled_dot_product_attention, `naive` the same
as a formula, `flex` torch's compiled FlexAttention with a block mask. Every way gets the same q, k, v and RoPE tables,
rotation included, and takes turns with the others in one process. `backward` is forward and backward. Ways that would
need more than the memory limit are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..config import HarmonyConfig
from ..geometry import ClipGeometry
from ..model.rope import cross_rope, cross_windows, to_device, video_rope
from ..ops import registry
from ..ops.framewise_attention.naive import Groups, framewise_attention_naive, window_mask
from ..ops.rope import RopeTable, apply_rope, apply_rope_naive
from ..presets import preset
from .timing import call_way, comparison, machine, time_ways

LENGTHS_S = (2, 5, 10, 20, 40, 60)
QUICK_LENGTHS_S = (2, 20)


@dataclass(frozen=True)
class OpsOptions:
    """A 720p layout, at a fraction of the width on CPU."""

    device: torch.device
    heads: int
    head_dim: int
    repeats: int
    memory_gb: float
    quick: bool
    lengths: tuple[float, ...] = ()  # seconds; empty: all, or the two of `quick`

    @property
    def config(self) -> HarmonyConfig:
        return preset("harmony-5b").with_(dim=self.heads * self.head_dim, num_heads=self.heads)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.device.type == "cpu" else torch.bfloat16

    @property
    def modes(self) -> tuple[str, ...]:
        return ("forward",) if self.quick else ("forward", "backward")


def bench_ops(options: OpsOptions) -> list[dict[str, Any]]:
    """Rows of both ops, with the machine."""
    rows = framewise_rows(options) + qk_norm_rope_rows(options)
    return [row | machine(options.device) for row in rows]


def masked_global(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, rope_q: RopeTable, rope_k: RopeTable) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (apply_rope(q, rope_q), apply_rope(k, rope_k), v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def flex_way(groups: Groups, num_queries: int, num_keys: int, device: torch.device) -> Callable:
    """FlexAttention with the windows as a block mask, made beforehand. torch compiles no complex numbers on CPU."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    torch.compiler.reset()  # each length is a program of its own, and only so many are kept
    rows = torch.tensor(groups, device=device)
    starts, ends = (column.repeat_interleave(rows[:, 1] - rows[:, 0]) for column in (rows[:, 2], rows[:, 3]))

    def seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= starts[query]) & (key < ends[query])

    block_mask = torch.compile(create_block_mask)(seen, None, None, num_queries, num_keys, device=device)

    def run(q: Tensor, k: Tensor, v: Tensor, rope_q: RopeTable, rope_k: RopeTable) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (apply_rope_naive(q, rope_q), apply_rope_naive(k, rope_k), v))
        return flex_attention(q, k, v, block_mask=block_mask).transpose(1, 2)

    return torch.compile(run, dynamic=False)


def directions(seconds: float, config: HarmonyConfig) -> dict[str, tuple]:
    """Per direction: groups, number of queries and of keys, RoPE tables."""
    clip = ClipGeometry.from_seconds(seconds, config.fps, config.height, config.width, config)
    frames, num_audio = clip.num_latent_frames, clip.num_audio_latents
    tokens = math.prod(config.grid(clip.video_shape(1, config.video_channels))[1:])
    tables = cross_rope(frames, tokens, num_audio, config)
    a2v, v2a = cross_windows(frames, tokens, num_audio, config)
    return {
        "a2v": (a2v, frames * tokens, num_audio, tables["a2v"]),
        "v2a": (v2a, num_audio, frames * tokens, tables["v2a"]),
    }


def framewise_rows(options: OpsOptions) -> list[dict[str, Any]]:
    config, device, dtype, rows = options.config, options.device, options.dtype, []
    lengths = options.lengths or (QUICK_LENGTHS_S if options.quick else LENGTHS_S)
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
            if not options.quick:
                ways["flex"] = partial(flex_way(groups, queries, keys, device), **ropes)
                call_way(ways["flex"], inputs, "forward")  # compiles, which its memory should not count
            for mode in options.modes:
                if mode == "backward" and device.type == "cpu":
                    ways.pop("flex", None)  # torch has no backward of FlexAttention on CPU
                for way, measured in time_ways(ways, inputs, mode, options.repeats).items():
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


def qk_norm_rope_rows(options: OpsOptions) -> list[dict[str, Any]]:
    """Self-attention's q and k of a five-second clip (a second on CPU)."""
    config, device, dtype = options.config, options.device, options.dtype
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
        for mode in options.modes
        for way, measured in time_ways(ways, inputs, mode, options.repeats).items()
    ]


def comparisons(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`framewise_20s` and its relatives (both directions together), growth with the clip, and the norm."""

    def total(column: str, op: str = "framewise_attention", **wanted: object) -> float | None:
        found = [r for r in rows if r["op"] == op and all(r[key] == value for key, value in wanted.items())]
        return sum(row[column] for row in found) if found else None

    result = []

    def add(name: str, ours: float | None, peer: float | None, unit: str) -> None:
        if ours is not None and peer:
            result.append(comparison(name, ours, peer, unit))

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
    if shortest and longest:  # linear in the clip: the time grows no more than the length does
        name = f"framewise_growth_{lengths[0]}s_to_{lengths[-1]}s"
        add(name, longest / shortest, lengths[-1] / lengths[0], "times")
    for mode in ("forward", "backward"):
        ours, peer = (total("seconds_p50", op="qk_norm_rope", mode=mode, way=way) for way in ("ours", "naive"))
        add(f"qk_norm_rope_{mode}", ours, peer, "s")
    return result
