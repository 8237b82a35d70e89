"""What the Triton ops share: kernels that still import where Triton is missing, tuning, and names for torch.library.

Legend: M rows of a tile, D head size padded to a power of two, P rotated pairs.
"""

# Triton's kernels are a language of their own, which a checker of Python cannot follow.
# pyright: reportOptionalMemberAccess=false, reportInvalidTypeForm=false

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .rope import RopeTable

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:  # a CPU-only install: the registry then never launches a kernel
    triton = tl = None

MIN_TUNED_WORK = 1 << 18  # query-key pairs; below it the first configuration runs untuned


def jit(kernel: Callable[..., Any]) -> Any:
    """`triton.jit`, or the bare function where Triton is missing."""
    return kernel if triton is None else triton.jit(kernel)


def configs(*shapes: tuple[int, int, int, int]) -> list:
    """Tuning configurations from (BLOCK_M, BLOCK_N, warps, stages)."""
    if triton is None:
        return []
    return [
        triton.Config({"BLOCK_M": m, "BLOCK_N": n}, num_warps=warps, num_stages=stages)
        for m, n, warps, stages in shapes
    ]


def autotune(choices: list, prune: Callable[..., list]) -> Any:
    """Tune once per power-of-two `bucket` of lengths, head size and dtype, over what `prune` leaves of `choices`."""
    if triton is None:
        return lambda kernel: kernel
    return triton.autotune(
        choices, key=["bucket", "HEAD_DIM", "PAIRS_Q", "PAIRS_K"], prune_configs_by={"early_config_prune": prune}
    )


def op_name(name: str) -> str:
    """`harmony_av::name`, with a suffix where the package is nested in another.

    ComfyUI loads the pack under a name of its own. If harmony_core is imported as well, in the same process, both
    register their ops.
    """
    outer = (__package__ or "").removesuffix("harmony_core.ops").rstrip(".")
    return "harmony_av" + re.sub(r"\W", "_", f".{outer}" if outer else "") + "::" + name


def dense(x: Tensor) -> Tensor:
    """The kernels take any strides but the last, which is 1."""
    return x if x.stride(-1) == 1 else x.contiguous()


def table_parts(table: RopeTable | None, x_BLHD: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """cos and sin as the kernels read them: float32 [B or 1, L, P], contiguous.

    Raises:
        ValueError: a table of another length, or of more pairs than a head has.
    """
    if table is None:
        return None, None
    cos, sin = (part.float().contiguous() for part in table)
    batch, length, _, head_dim = x_BLHD.shape
    if (
        cos.shape != sin.shape
        or cos.shape[0] not in (1, batch)
        or cos.shape[1] != length
        or 2 * cos.shape[2] > head_dim
    ):
        raise ValueError(
            f"A RoPE table of shape {tuple(cos.shape)} does not fit a tensor of shape {tuple(x_BLHD.shape)}; "
            f"give [1 or {batch}, {length}, at most {head_dim // 2}]."
        )
    return cos, sin


def table_arguments(cos: Tensor | None, sin: Tensor | None, filler: Tensor) -> tuple[Tensor, Tensor, int, int]:
    """(cos, sin, batch stride, P) for a launch. `filler` is what an unread pointer points to."""
    if cos is None or sin is None:
        return filler, filler, 0, 0
    return cos, sin, cos.stride(0) if cos.shape[0] > 1 else 0, cos.shape[2]


def on_device(x: Tensor) -> torch.cuda.device_of:
    """Triton launches on the current device; make it the tensor's."""
    return torch.cuda.device_of(x)


@jit
def load_rows(pointer, rows, stride, in_range, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """[M, D] of one head; zero outside."""
    d = tl.arange(0, BLOCK_D)
    mask = in_range[:, None] & (d < HEAD_DIM)[None, :]
    return tl.load(pointer + rows[:, None] * stride + d[None, :], mask=mask, other=0.0)


@jit
def store_rows(pointer, x, rows, stride, in_range, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """[M, D] of one head, cast to the dtype of the destination."""
    d = tl.arange(0, BLOCK_D)
    mask = in_range[:, None] & (d < HEAD_DIM)[None, :]
    tl.store(pointer + rows[:, None] * stride + d[None, :], x.to(pointer.dtype.element_ty), mask=mask)


@jit
def rotate_pairs(x, cos, sin, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rotate the pairs (2p, 2p + 1) of float32 [ROWS, D] by cos and sin of [ROWS or 1, D / 2]."""
    even, odd = tl.split(tl.reshape(x, (ROWS, BLOCK_D // 2, 2)))
    return tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (ROWS, BLOCK_D))


@jit
def rotate_rows(
    x, cos, sin, rows, in_range, SIGN: tl.constexpr, PAIRS: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Rotate the first P pairs of float32 [ROWS, D] by SIGN times the angles of these rows of the table."""
    p = tl.arange(0, BLOCK_D // 2)
    mask = in_range[:, None] & (p < PAIRS)[None, :]
    at = rows[:, None] * PAIRS + p[None, :]
    c = tl.load(cos + at, mask=mask, other=1.0)
    s = tl.load(sin + at, mask=mask, other=0.0) * SIGN
    return rotate_pairs(x, c, s, ROWS, BLOCK_D)
