"""Kernels of the Triton implementation: tiles of queries walk the keys that any of their rows sees.

Windows are monotone, so what a tile needs is one range, and the queries that see a key are contiguous too: both
directions of the backward are plain loops that write each gradient once, without atomics, in a fixed order.

Legend: B batch, L queries, S keys, H heads, D head size, P rotated pairs, M rows of a query tile, N rows of a key tile.
"""

# Triton's kernels are a language of their own, which a checker of Python cannot follow.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

from ..triton_support import MIN_TUNED_WORK, autotune, configs, jit, load_rows, rotate_rows, store_rows, tl

# (BLOCK_M, BLOCK_N, warps, stages); none may spill, nor need more shared memory than a small GPU's 99 KB (tests hold
# both). The first of each runs where tuning is not worth it.
# Wide query tiles suit A2V (hundreds of queries to a dozen keys), wide key tiles V2A (few queries, thousands of keys).
FORWARD_CONFIGS = configs((32, 32, 4, 2), (64, 32, 4, 2), (128, 32, 8, 2), (16, 64, 4, 2))
QUERY_GRADIENT_CONFIGS = configs((32, 16, 4, 2), (16, 32, 4, 2), (16, 64, 8, 2))
KEY_GRADIENT_CONFIGS = configs((16, 32, 4, 2), (32, 16, 4, 2))
# float32 products without tf32 run on ordinary units and hold their operands in registers: one small tile for all.
FLOAT32_CONFIGS = configs((16, 16, 8, 1))
FLOAT32_KEY_GRADIENT_CONFIGS = configs((16, 16, 4, 1))


def prune(choices: list, arguments: dict, **_constants) -> list:
    """What is worth trying: the last for float32, the first for small work, else all but the last."""
    if arguments["q"].element_size() == 4:
        return choices[-1:]
    small = arguments["num_queries"] * arguments["num_keys"] < MIN_TUNED_WORK
    return choices[:1] if small else choices[:-1]


@autotune(FORWARD_CONFIGS + FLOAT32_CONFIGS, prune)
@jit
def framewise_attention_fwd_kernel(
    q, k, v, out, lse, cos_q, sin_q, cos_k, sin_k, window_starts, window_ends,
    q_stride_b, q_stride_l, q_stride_h, k_stride_b, k_stride_s, k_stride_h, v_stride_b, v_stride_s, v_stride_h,
    table_q_stride_b, table_k_stride_b, num_queries, num_keys, num_heads, scale_log2, bucket,  # noqa: ARG001
    HEAD_DIM: tl.constexpr, PAIRS_Q: tl.constexpr, PAIRS_K: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """out = softmax(scale q k^T over the window) v; lse = log2 of the sum of exponentials."""
    batch = (tl.program_id(1) // num_heads).to(tl.int64)
    head = (tl.program_id(1) % num_heads).to(tl.int64)
    first = tl.program_id(0) * BLOCK_M
    l_M = (first + tl.arange(0, BLOCK_M)).to(tl.int64)
    is_query = l_M < num_queries
    q_MD = load_rows(q + batch * q_stride_b + head * q_stride_h, l_M, q_stride_l, is_query, HEAD_DIM, BLOCK_D)
    if PAIRS_Q > 0:
        at = batch * table_q_stride_b
        q_MD = rotate_rows(
            q_MD.to(tl.float32), cos_q + at, sin_q + at, l_M, is_query, 1.0, PAIRS_Q, BLOCK_M, BLOCK_D
        ).to(q.dtype.element_ty)
    start_M = tl.load(window_starts + l_M, mask=is_query, other=0)
    end_M = tl.load(window_ends + l_M, mask=is_query, other=0)
    window_start = tl.load(window_starts + first)
    window_end = tl.load(window_ends + tl.minimum(first + BLOCK_M, num_queries) - 1)
    highest_M = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total_M = tl.zeros((BLOCK_M,), tl.float32)
    out_MD = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for key_first in range(window_start, window_end, BLOCK_N):
        s_N = (key_first + tl.arange(0, BLOCK_N)).to(tl.int64)
        is_key = s_N < window_end
        k_ND = load_rows(k + batch * k_stride_b + head * k_stride_h, s_N, k_stride_s, is_key, HEAD_DIM, BLOCK_D)
        if PAIRS_K > 0:
            at = batch * table_k_stride_b
            k_ND = rotate_rows(
                k_ND.to(tl.float32), cos_k + at, sin_k + at, s_N, is_key, 1.0, PAIRS_K, BLOCK_N, BLOCK_D
            ).to(k.dtype.element_ty)
        v_ND = load_rows(v + batch * v_stride_b + head * v_stride_h, s_N, v_stride_s, is_key, HEAD_DIM, BLOCK_D)
        score_MN = tl.dot(q_MD, tl.trans(k_ND), input_precision=PRECISION) * scale_log2
        seen = (s_N[None, :] >= start_M[:, None]) & (s_N[None, :] < end_M[:, None])
        score_MN = tl.where(seen, score_MN, float("-inf"))
        new_highest_M = tl.maximum(highest_M, tl.max(score_MN, 1))
        # A row whose window has not begun has no maximum yet; any finite one gives it weights of zero.
        finite_M = tl.where(new_highest_M == float("-inf"), 0.0, new_highest_M)
        weight_MN = tl.exp2(score_MN - finite_M[:, None])
        shrink_M = tl.exp2(highest_M - finite_M)
        total_M = total_M * shrink_M + tl.sum(weight_MN, 1)
        out_MD = out_MD * shrink_M[:, None]
        out_MD = tl.dot(weight_MN.to(v.dtype.element_ty), v_ND, out_MD, input_precision=PRECISION)
        highest_M = new_highest_M
    total_M = tl.where(is_query, total_M, 1.0)
    out_row = ((batch * num_queries) * num_heads + head) * HEAD_DIM
    store_rows(out + out_row, out_MD / total_M[:, None], l_M, num_heads * HEAD_DIM, is_query, HEAD_DIM, BLOCK_D)
    lse_row = (batch * num_heads + head) * num_queries
    tl.store(lse + lse_row + l_M, highest_M + tl.log2(total_M), mask=is_query)


@autotune(QUERY_GRADIENT_CONFIGS + FLOAT32_CONFIGS, prune)
@jit
def framewise_attention_bwd_kernel_dq(
    q, k, v, out, lse, grad, delta, grad_q, cos_q, sin_q, cos_k, sin_k, window_starts, window_ends,
    q_stride_b, q_stride_l, q_stride_h, k_stride_b, k_stride_s, k_stride_h, v_stride_b, v_stride_s, v_stride_h,
    grad_stride_b, grad_stride_l, grad_stride_h,
    table_q_stride_b, table_k_stride_b, num_queries, num_keys, num_heads, scale, scale_log2, bucket,  # noqa: ARG001
    HEAD_DIM: tl.constexpr, PAIRS_Q: tl.constexpr, PAIRS_K: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """grad_q = scale (w * (grad v^T - delta)) k, rotated back; also leaves delta = sum_D(grad * out) for the keys."""
    batch = (tl.program_id(1) // num_heads).to(tl.int64)
    head = (tl.program_id(1) % num_heads).to(tl.int64)
    first = tl.program_id(0) * BLOCK_M
    l_M = (first + tl.arange(0, BLOCK_M)).to(tl.int64)
    is_query = l_M < num_queries
    q_MD = load_rows(q + batch * q_stride_b + head * q_stride_h, l_M, q_stride_l, is_query, HEAD_DIM, BLOCK_D)
    if PAIRS_Q > 0:
        at_q = batch * table_q_stride_b
        q_MD = rotate_rows(
            q_MD.to(tl.float32), cos_q + at_q, sin_q + at_q, l_M, is_query, 1.0, PAIRS_Q, BLOCK_M, BLOCK_D
        ).to(q.dtype.element_ty)
    row = ((batch * num_queries) * num_heads + head) * HEAD_DIM
    row_stride = num_heads * HEAD_DIM
    grad_at = grad + batch * grad_stride_b + head * grad_stride_h
    grad_MD = load_rows(grad_at, l_M, grad_stride_l, is_query, HEAD_DIM, BLOCK_D)
    out_MD = load_rows(out + row, l_M, row_stride, is_query, HEAD_DIM, BLOCK_D)
    delta_M = tl.sum(grad_MD.to(tl.float32) * out_MD.to(tl.float32), 1)
    per_query = (batch * num_heads + head) * num_queries
    tl.store(delta + per_query + l_M, delta_M, mask=is_query)
    lse_M = tl.load(lse + per_query + l_M, mask=is_query, other=0.0)
    start_M = tl.load(window_starts + l_M, mask=is_query, other=0)
    end_M = tl.load(window_ends + l_M, mask=is_query, other=0)
    window_start = tl.load(window_starts + first)
    window_end = tl.load(window_ends + tl.minimum(first + BLOCK_M, num_queries) - 1)
    grad_q_MD = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for key_first in range(window_start, window_end, BLOCK_N):
        s_N = (key_first + tl.arange(0, BLOCK_N)).to(tl.int64)
        is_key = s_N < window_end
        k_ND = load_rows(k + batch * k_stride_b + head * k_stride_h, s_N, k_stride_s, is_key, HEAD_DIM, BLOCK_D)
        if PAIRS_K > 0:
            at_k = batch * table_k_stride_b
            k_ND = rotate_rows(
                k_ND.to(tl.float32), cos_k + at_k, sin_k + at_k, s_N, is_key, 1.0, PAIRS_K, BLOCK_N, BLOCK_D
            ).to(k.dtype.element_ty)
        v_ND = load_rows(v + batch * v_stride_b + head * v_stride_h, s_N, v_stride_s, is_key, HEAD_DIM, BLOCK_D)
        score_MN = tl.dot(q_MD, tl.trans(k_ND), input_precision=PRECISION) * scale_log2
        seen = (s_N[None, :] >= start_M[:, None]) & (s_N[None, :] < end_M[:, None])
        weight_MN = tl.exp2(tl.where(seen, score_MN - lse_M[:, None], float("-inf")))
        grad_weight_MN = tl.dot(grad_MD, tl.trans(v_ND), input_precision=PRECISION)
        grad_score_MN = weight_MN * (grad_weight_MN - delta_M[:, None])
        grad_q_MD = tl.dot(grad_score_MN.to(k.dtype.element_ty), k_ND, grad_q_MD, input_precision=PRECISION)
    grad_q_MD = grad_q_MD * scale
    if PAIRS_Q > 0:
        at_q = batch * table_q_stride_b
        grad_q_MD = rotate_rows(grad_q_MD, cos_q + at_q, sin_q + at_q, l_M, is_query, -1.0, PAIRS_Q, BLOCK_M, BLOCK_D)
    store_rows(grad_q + row, grad_q_MD, l_M, row_stride, is_query, HEAD_DIM, BLOCK_D)


@autotune(KEY_GRADIENT_CONFIGS + FLOAT32_KEY_GRADIENT_CONFIGS, prune)
@jit
def framewise_attention_bwd_kernel_dkv(
    q, k, v, lse, grad, delta, grad_k, grad_v, cos_q, sin_q, cos_k, sin_k, viewer_starts, viewer_ends,
    q_stride_b, q_stride_l, q_stride_h, k_stride_b, k_stride_s, k_stride_h, v_stride_b, v_stride_s, v_stride_h,
    grad_stride_b, grad_stride_l, grad_stride_h,
    table_q_stride_b, table_k_stride_b, num_queries, num_keys, num_heads, scale, scale_log2, bucket,  # noqa: ARG001
    HEAD_DIM: tl.constexpr, PAIRS_Q: tl.constexpr, PAIRS_K: tl.constexpr, BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """grad_v = w^T grad; grad_k = scale (w * (grad v^T - delta))^T q, rotated back; over the queries that see a key."""
    batch = (tl.program_id(1) // num_heads).to(tl.int64)
    head = (tl.program_id(1) % num_heads).to(tl.int64)
    first = tl.program_id(0) * BLOCK_N
    s_N = (first + tl.arange(0, BLOCK_N)).to(tl.int64)
    is_key = s_N < num_keys
    k_ND = load_rows(k + batch * k_stride_b + head * k_stride_h, s_N, k_stride_s, is_key, HEAD_DIM, BLOCK_D)
    if PAIRS_K > 0:
        at_k = batch * table_k_stride_b
        k_ND = rotate_rows(
            k_ND.to(tl.float32), cos_k + at_k, sin_k + at_k, s_N, is_key, 1.0, PAIRS_K, BLOCK_N, BLOCK_D
        ).to(k.dtype.element_ty)
    v_ND = load_rows(v + batch * v_stride_b + head * v_stride_h, s_N, v_stride_s, is_key, HEAD_DIM, BLOCK_D)
    start_N = tl.load(viewer_starts + s_N, mask=is_key, other=0)
    end_N = tl.load(viewer_ends + s_N, mask=is_key, other=0)
    viewers_start = tl.load(viewer_starts + first)
    viewers_end = tl.load(viewer_ends + tl.minimum(first + BLOCK_N, num_keys) - 1)
    per_query = (batch * num_heads + head) * num_queries
    grad_at = grad + batch * grad_stride_b + head * grad_stride_h
    grad_k_ND = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    grad_v_ND = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for query_first in range(viewers_start, viewers_end, BLOCK_M):
        l_M = (query_first + tl.arange(0, BLOCK_M)).to(tl.int64)
        is_query = l_M < viewers_end
        q_MD = load_rows(q + batch * q_stride_b + head * q_stride_h, l_M, q_stride_l, is_query, HEAD_DIM, BLOCK_D)
        if PAIRS_Q > 0:
            at_q = batch * table_q_stride_b
            q_MD = rotate_rows(
                q_MD.to(tl.float32), cos_q + at_q, sin_q + at_q, l_M, is_query, 1.0, PAIRS_Q, BLOCK_M, BLOCK_D
            ).to(q.dtype.element_ty)
        grad_MD = load_rows(grad_at, l_M, grad_stride_l, is_query, HEAD_DIM, BLOCK_D)
        lse_M = tl.load(lse + per_query + l_M, mask=is_query, other=0.0)
        delta_M = tl.load(delta + per_query + l_M, mask=is_query, other=0.0)
        score_NM = tl.dot(k_ND, tl.trans(q_MD), input_precision=PRECISION) * scale_log2
        seen = (l_M[None, :] >= start_N[:, None]) & (l_M[None, :] < end_N[:, None])
        weight_NM = tl.exp2(tl.where(seen, score_NM - lse_M[None, :], float("-inf")))
        grad_v_ND = tl.dot(weight_NM.to(grad.dtype.element_ty), grad_MD, grad_v_ND, input_precision=PRECISION)
        grad_weight_NM = tl.dot(v_ND, tl.trans(grad_MD), input_precision=PRECISION)
        grad_score_NM = weight_NM * (grad_weight_NM - delta_M[None, :])
        grad_k_ND = tl.dot(grad_score_NM.to(q.dtype.element_ty), q_MD, grad_k_ND, input_precision=PRECISION)
    grad_k_ND = grad_k_ND * scale
    if PAIRS_K > 0:
        at_k = batch * table_k_stride_b
        grad_k_ND = rotate_rows(grad_k_ND, cos_k + at_k, sin_k + at_k, s_N, is_key, -1.0, PAIRS_K, BLOCK_N, BLOCK_D)
    row = ((batch * num_keys) * num_heads + head) * HEAD_DIM
    store_rows(grad_k + row, grad_k_ND, s_N, num_heads * HEAD_DIM, is_key, HEAD_DIM, BLOCK_D)
    store_rows(grad_v + row, grad_v_ND, s_N, num_heads * HEAD_DIM, is_key, HEAD_DIM, BLOCK_D)
