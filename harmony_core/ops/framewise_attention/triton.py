"""Triton implementation, as ops of torch.library: torch.compile sees one node forward and one backward.

Legend: B batch, L queries, S keys, H heads, D head size, P rotated pairs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..rope import RopeTable
from ..tables import cached_tables
from ..triton_support import dense, on_device, op_name, table_arguments, table_parts, triton
from .naive import Groups
from .triton_kernels import (
    framewise_attention_bwd_kernel_dkv,
    framewise_attention_bwd_kernel_dq,
    framewise_attention_fwd_kernel,
)

MAX_HEAD_DIM = 128
LOG2_E = 1.4426950408889634

TABLES = "Tensor? cos_q, Tensor? sin_q, Tensor? cos_k, Tensor? sin_k"
FORWARD = f"(Tensor q, Tensor k, Tensor v, int[] groups, {TABLES}) -> (Tensor, Tensor)"
BACKWARD = (
    f"(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, int[] groups, {TABLES})"
    " -> (Tensor, Tensor, Tensor)"
)


def framewise_attention_triton(
    q_BLHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    groups: Groups,
    rope_q: RopeTable | None = None,
    rope_k: RopeTable | None = None,
) -> Tensor:
    """See `framewise_attention_naive`. RoPE is applied inside the kernels; gradients are deterministic.

    Raises:
        ValueError: a head size above 128, unequal dtypes, groups or windows out of order, a table that does not fit.
    """
    if q_BLHD.shape[-1] > MAX_HEAD_DIM:
        raise ValueError(f"Head size {q_BLHD.shape[-1]} is above {MAX_HEAD_DIM}; use the sdpa implementation.")
    if not q_BLHD.dtype == k_BSHD.dtype == v_BSHD.dtype:
        raise ValueError(f"q, k and v are {q_BLHD.dtype}, {k_BSHD.dtype} and {v_BSHD.dtype}; cast them to one dtype.")
    flat = [edge for group in groups for edge in group]
    tables = (*table_parts(rope_q, q_BLHD), *table_parts(rope_k, k_BSHD))
    return _forward(q_BLHD, k_BSHD, v_BSHD, flat, *tables)[0]


@cached_tables
def visibility(groups: tuple[int, ...], num_queries: int, num_keys: int, device: torch.device) -> tuple[Tensor, ...]:
    """int32 [L] start and end of each query's window, int32 [S] start and end of the queries that see each key.

    Raises:
        ValueError: groups that do not cover the queries in order, or windows that are empty or not monotone.
    """
    rows = np.array(groups, np.int64).reshape(-1, 4)
    (query_starts, query_ends, key_starts, key_ends) = rows.T
    contiguous = query_starts[0] == 0 and query_ends[-1] == num_queries and (query_starts[1:] == query_ends[:-1]).all()
    monotone = (np.diff(key_starts) >= 0).all() and (np.diff(key_ends) >= 0).all()
    if not (contiguous and monotone and key_starts[0] >= 0 and key_ends[-1] <= num_keys):
        raise ValueError(
            f"Groups {rows.tolist()} must cover {num_queries} queries in order, "
            f"with monotone windows in {num_keys} keys."
        )
    if (query_starts >= query_ends).any() or (key_starts >= key_ends).any():
        raise ValueError(f"Groups {rows.tolist()} contain an empty group or window; leave empty groups out.")
    starts, ends = (np.repeat(edge, query_ends - query_starts) for edge in (key_starts, key_ends))
    keys = np.arange(num_keys)
    edges = (starts, ends, np.searchsorted(ends, keys, side="right"), np.searchsorted(starts, keys, side="right"))
    return tuple(torch.from_numpy(edge.astype(np.int32)).to(device) for edge in edges)


def _arguments(q: Tensor, k: Tensor, v: Tensor, tables: tuple[Tensor | None, ...]) -> tuple[tuple, tuple, dict]:
    """Table pointers, strides and lengths, and constants: what every kernel takes."""
    (num_queries, heads, head_dim), num_keys = q.shape[1:], k.shape[1]
    cos_q, sin_q, table_q_stride, pairs_q = table_arguments(*tables[:2], filler=q)
    cos_k, sin_k, table_k_stride, pairs_k = table_arguments(*tables[2:], filler=k)
    strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3])
    bucket = 100 * num_queries.bit_length() + num_keys.bit_length()
    tf32 = q.dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
    constants = {
        "HEAD_DIM": head_dim,
        "PAIRS_Q": pairs_q,
        "PAIRS_K": pairs_k,
        "BLOCK_D": max(16, triton.next_power_of_2(head_dim)),
        "PRECISION": "tf32" if tf32 else "ieee",
    }
    scale = head_dim**-0.5
    lengths = (table_q_stride, table_k_stride, num_queries, num_keys, heads)
    return (cos_q, sin_q, cos_k, sin_k), (strides, lengths, scale, bucket), constants


def _tiles(length: int, block: str, x: Tensor):
    return lambda meta: (triton.cdiv(length, meta[block]), x.shape[0] * x.shape[2])


@torch.library.custom_op(op_name("framewise_attention"), mutates_args=(), schema=FORWARD)
def _forward(q, k, v, groups, cos_q, sin_q, cos_k, sin_k):
    q, k, v = dense(q), dense(k), dense(v)
    starts, ends, _, _ = visibility(tuple(groups), q.shape[1], k.shape[1], q.device)
    tables, (strides, lengths, scale, bucket), constants = _arguments(q, k, v, (cos_q, sin_q, cos_k, sin_k))
    out, lse = _forward_outputs(q)
    with on_device(q):
        framewise_attention_fwd_kernel[_tiles(q.shape[1], "BLOCK_M", q)](
            q, k, v, out, lse, *tables, starts, ends, *strides, *lengths, scale * LOG2_E, bucket, **constants
        )
    return out, lse


def _forward_outputs(q: Tensor) -> tuple[Tensor, Tensor]:
    """out [B, L, H, D] and lse [B, H, L]."""
    batch, length, heads, _ = q.shape
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), torch.empty(
        (batch, heads, length), dtype=torch.float32, device=q.device
    )


@_forward.register_fake
def _(q, k, v, groups, cos_q, sin_q, cos_k, sin_k):  # noqa: ARG001
    return _forward_outputs(q)


@torch.library.custom_op(op_name("framewise_attention_backward"), mutates_args=(), schema=BACKWARD)
def _backward(grad, q, k, v, out, lse, groups, cos_q, sin_q, cos_k, sin_k):
    grad, q, k, v = dense(grad), dense(q), dense(k), dense(v)
    starts, ends, viewer_starts, viewer_ends = visibility(tuple(groups), q.shape[1], k.shape[1], q.device)
    tables, (strides, lengths, scale, bucket), constants = _arguments(q, k, v, (cos_q, sin_q, cos_k, sin_k))
    rest = (*strides, *grad.stride()[:3], *lengths, scale, scale * LOG2_E, bucket)
    grad_q, grad_k, grad_v = _backward_outputs(q, k, v)
    delta = torch.empty_like(lse)
    with on_device(q):
        framewise_attention_bwd_kernel_dq[_tiles(q.shape[1], "BLOCK_M", q)](
            q, k, v, out, lse, grad, delta, grad_q, *tables, starts, ends, *rest, **constants
        )
        framewise_attention_bwd_kernel_dkv[_tiles(k.shape[1], "BLOCK_N", k)](
            q, k, v, lse, grad, delta, grad_k, grad_v, *tables, viewer_starts, viewer_ends, *rest, **constants
        )
    return grad_q, grad_k, grad_v


def _backward_outputs(*inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in inputs)


@_backward.register_fake
def _(grad, q, k, v, out, lse, groups, cos_q, sin_q, cos_k, sin_k):  # noqa: ARG001
    return _backward_outputs(q, k, v)


def _save(ctx, inputs, output) -> None:
    q, k, v, ctx.groups, *tables = inputs
    ctx.save_for_backward(q, k, v, *output, *tables)


def _gradients(ctx, grad, _grad_lse):
    q, k, v, out, lse, *tables = ctx.saved_tensors
    return *_backward(grad, q, k, v, out, lse, ctx.groups, *tables), None, None, None, None, None


_forward.register_autograd(_gradients, setup_context=_save)
