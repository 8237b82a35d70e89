"""Every kernel compiles to machine code for each GPU family, without a GPU; registers, spills and shared memory.

One small variant of each kernel by default. `HARMONY_ALL_KERNELS=1` compiles all of them (every tile, dtype and target,
with and without RoPE; minutes).
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", minversion="3.6")  # before, importing a tuned kernel asks for a GPU

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from harmony_core.ops.framewise_attention import triton_kernels as framewise  # noqa: E402
from harmony_core.ops.qk_norm_rope import triton_kernels as norm  # noqa: E402

TARGETS = {f"sm_{arch}": GPUTarget("cuda", arch, 32) for arch in (80, 90, 100, 120)}
TARGETS["gfx942"] = GPUTarget("hip", "gfx942", 64)
# Bytes of shared memory that one block may use.
SHARED_LIMITS = {"sm_80": 163 << 10, "sm_90": 227 << 10, "sm_100": 227 << 10, "sm_120": 99 << 10, "gfx942": 64 << 10}
MAX_LANES = 8
MAX_REGISTERS = {"cuda": 255, "hip": 512}
ALL = os.environ.get("HARMONY_ALL_KERNELS") == "1"
FRAMEWISE = {  # tiles of half precision, and of float32
    "framewise_attention_fwd_kernel": (framewise.FORWARD_CONFIGS, framewise.FLOAT32_CONFIGS),
    "framewise_attention_bwd_kernel_dq": (framewise.QUERY_GRADIENT_CONFIGS, framewise.FLOAT32_CONFIGS),
    "framewise_attention_bwd_kernel_dkv": (framewise.KEY_GRADIENT_CONFIGS, framewise.FLOAT32_KEY_GRADIENT_CONFIGS),
}
FLOATS = {"eps", "scale", "scale_log2"}


@dataclass(frozen=True)
class Resources:
    registers: int
    spills: int  # what goes to memory: bytes of stack and local memory, on AMD spilled vector registers and scratch
    lanes: int  # AMD's scalar registers that are kept in lanes of a vector register: no memory is touched
    shared: int


def signature(kernel, dtype: str, constants: dict[str, object]) -> tuple[dict, dict]:
    """Types of all arguments, and which are divisible by 16, as a launch on real tensors specialises them."""
    types, divisible = {}, {}
    for index, name in enumerate(kernel.arg_names):
        if name in constants:
            types[name] = "constexpr"
        elif name in FLOATS:
            types[name] = "fp32"
        elif re.fullmatch(r"(cos|sin)(_[qk])?|lse|delta|inverses|grad_weight_parts", name):
            types[name] = "*fp32"
        elif name.endswith(("_starts", "_ends")):
            types[name] = "*i32"
        elif "stride" in name or name.startswith(("num_", "rows_")) or name in ("bucket", "length"):
            types[name] = "i32"
        else:
            types[name] = f"*{dtype}"
        if types[name].startswith("*") or (types[name] == "i32" and "stride" in name):
            divisible[(index,)] = [["tt.divisibility", 16]]
    return types, divisible


def resources(kernel, dtype: str, constants: dict, options: dict, target: GPUTarget, folder: Path) -> Resources:
    types, divisible = signature(kernel, dtype, constants)
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    compiled = triton.compile(ASTSource(kernel, types, values, divisible), target=target, options=options)
    if target.backend == "hip":
        text = compiled.asm["amdgcn"]
        counts = {
            name: int(re.search(rf"\.{name}:\s*(\d+)", text).group(1))
            for name in ("vgpr_count", "vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size")
        }
        spills = counts["vgpr_spill_count"] + counts["private_segment_fixed_size"]
        return Resources(counts["vgpr_count"], spills, counts["sgpr_spill_count"], compiled.metadata.shared)
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    text = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf"{name}:(\d+)", text).group(1)) for name in ("REG", "STACK", "LOCAL"))
    return Resources(registers, stack + local, 0, compiled.metadata.shared)


def framewise_variants() -> list[tuple]:
    """(kernel, dtype, head size, pairs, configuration)."""
    variants = []
    for name, (half, single) in FRAMEWISE.items():
        kernel = getattr(framewise, name).fn
        for dtype in ("bf16", "fp16", "fp32") if ALL else ("bf16",):
            for head_dim, pairs in ((128, 22), (128, 0), (64, 12), (32, 6), (20, 4)) if ALL else ((32, 6),):
                tiles = single if dtype == "fp32" else half
                variants += [(kernel, dtype, head_dim, pairs, tile) for tile in (tiles if ALL else tiles[:1])]
    return variants


def bound(what: str, found: Resources, target: str) -> None:
    print(f"{what} {target}: {found}")
    assert found.spills == 0
    assert found.lanes <= MAX_LANES
    assert found.registers <= MAX_REGISTERS[TARGETS[target].backend]
    assert found.shared <= SHARED_LIMITS[target]


DEFAULT_TARGETS = tuple(TARGETS) if ALL else ("sm_90", "gfx942")


@pytest.mark.slow
@pytest.mark.parametrize("target", DEFAULT_TARGETS)
@pytest.mark.parametrize("variant", framewise_variants(), ids=lambda v: f"{v[0].__name__}-{v[1]}-{v[2]}-{v[3]}-{v[4]}")
def test_framewise_attention(variant: tuple, target: str, tmp_path: Path) -> None:
    kernel, dtype, head_dim, pairs, tile = variant
    constants = {
        "HEAD_DIM": head_dim,
        "PAIRS_Q": pairs,
        "PAIRS_K": pairs,
        "BLOCK_D": triton.next_power_of_2(head_dim),
        "PRECISION": "ieee",
        **tile.kwargs,
    }
    options = {"num_warps": tile.num_warps, "num_stages": tile.num_stages}
    found = resources(kernel, dtype, constants, options, TARGETS[target], tmp_path)
    bound(f"{kernel.__name__} {dtype} head {head_dim} pairs {pairs} {tile}", found, target)


@pytest.mark.slow
@pytest.mark.parametrize("target", DEFAULT_TARGETS)
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"] if ALL else ["bf16"])
@pytest.mark.parametrize("name", ["qk_norm_rope_fwd_kernel", "qk_norm_rope_bwd_kernel"])
def test_qk_norm_rope(name: str, dtype: str, target: str, tmp_path: Path) -> None:
    kernel = getattr(norm, name)
    constants = {"NUM_HEADS": 24, "HEAD_DIM": 128, "PAIRS": 64, "BLOCK_H": 32, "BLOCK_D": 128}
    found = resources(kernel, dtype, constants, {"num_warps": 8}, TARGETS[target], tmp_path)
    bound(f"{name} {dtype}", found, target)
