"""Kernels of the Triton implementation: a program holds one token's q, then its k, as a tile of heads by head size.

Legend: H heads, D head size, both padded to powers of two; P rotated pairs.
"""

# Triton's kernels are a language of their own, which a checker of Python cannot follow.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

from ..triton_support import jit, rotate_pairs, tl


@jit
def load_token(
    pointer, row, NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr
):
    """float32 [H, D] of one row of a contiguous [rows, width]; zero outside."""
    h, d = tl.arange(0, BLOCK_H)[:, None], tl.arange(0, BLOCK_D)[None, :]
    at = row * (NUM_HEADS * HEAD_DIM) + h * HEAD_DIM + d
    return tl.load(pointer + at, mask=(h < NUM_HEADS) & (d < HEAD_DIM), other=0.0).to(tl.float32)


@jit
def store_token(
    pointer, x, row, NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr
):
    h, d = tl.arange(0, BLOCK_H)[:, None], tl.arange(0, BLOCK_D)[None, :]
    at = row * (NUM_HEADS * HEAD_DIM) + h * HEAD_DIM + d
    tl.store(pointer + at, x.to(pointer.dtype.element_ty), mask=(h < NUM_HEADS) & (d < HEAD_DIM))


@jit
def load_angles(cos, sin, row, length, table_stride_b, PAIRS: tl.constexpr, BLOCK_D: tl.constexpr):
    """cos and sin [1, D / 2] of one token; the unrotated pairs get an angle of zero."""
    p = tl.arange(0, BLOCK_D // 2)[None, :]
    at = (row // length) * table_stride_b + (row % length) * PAIRS + p
    return tl.load(cos + at, mask=p < PAIRS, other=1.0), tl.load(sin + at, mask=p < PAIRS, other=0.0)


@jit
def qk_norm_rope_fwd_kernel(
    q, k, weight_q, weight_k, cos, sin, out_q, out_k, inverses, num_rows, length, table_stride_b, eps,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, PAIRS: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """out = rotate(x * inverse * weight), inverse = 1 / sqrt(mean(x^2) + eps), for q and for k."""
    row = tl.program_id(0).to(tl.int64)
    c, s = load_angles(cos, sin, row, length, table_stride_b, PAIRS, BLOCK_D)
    for which in tl.static_range(2):
        if which == 0:
            x, weight, out = q, weight_q, out_q
        else:
            x, weight, out = k, weight_k, out_k
        x_HD = load_token(x, row, NUM_HEADS, HEAD_DIM, BLOCK_H, BLOCK_D)
        weight_HD = load_token(weight, 0, NUM_HEADS, HEAD_DIM, BLOCK_H, BLOCK_D)
        inverse = 1.0 / tl.sqrt(tl.sum(tl.sum(x_HD * x_HD, 1), 0) / (NUM_HEADS * HEAD_DIM) + eps)
        tl.store(inverses + which * num_rows + row, inverse)
        normed_HD = (x_HD * inverse * weight_HD).to(x.dtype.element_ty).to(tl.float32)
        rotated_HD = rotate_pairs(normed_HD, c, s, BLOCK_H, BLOCK_D)
        store_token(out, rotated_HD, row, NUM_HEADS, HEAD_DIM, BLOCK_H, BLOCK_D)


@jit
def qk_norm_rope_bwd_kernel(
    grad_out_q, grad_out_k, q, k, weight_q, weight_k, cos, sin, inverses, grad_q, grad_k, grad_weight_parts,
    num_rows, rows_per_program, length, table_stride_b,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, PAIRS: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """With g = grad rotated back and n = x * inverse: grad_x = inverse * (g w - n mean(g w n)), grad_w = sum of g n.

    A program walks its own rows and leaves one partial sum of grad_w per tensor.
    """
    first = tl.program_id(0).to(tl.int64) * rows_per_program
    for which in tl.static_range(2):
        if which == 0:
            grad_out, x, weight, grad_x = grad_out_q, q, weight_q, grad_q
        else:
            grad_out, x, weight, grad_x = grad_out_k, k, weight_k, grad_k
        weight_HD = load_token(weight, 0, NUM_HEADS, HEAD_DIM, BLOCK_H, BLOCK_D)
        grad_weight_HD = tl.zeros((BLOCK_H, BLOCK_D), tl.float32)
        for row in range(first, tl.minimum(first + rows_per_program, num_rows)):
            c, s = load_angles(cos, sin, row, length, table_stride_b, PAIRS, BLOCK_D)
            grad_HD = load_token(grad_out, row, NUM_HEADS, HEAD_DIM, BLOCK_H, BLOCK_D)
            grad_HD = rotate_pairs(grad_HD, c, -s, BLOCK_H, BLOCK_D)
            inverse = tl.load(inverses + which * num_rows + row)
            normed_HD = load_token(x, row, NUM_HEADS, HEAD_DIM, BLOCK_H, BLOCK_D) * inverse
            grad_weight_HD += grad_HD * normed_HD
            grad_HD = grad_HD * weight_HD
            along = tl.sum(tl.sum(grad_HD * normed_HD, 1), 0) / (NUM_HEADS * HEAD_DIM)
            store_token(grad_x, (grad_HD - normed_HD * along) * inverse, row, NUM_HEADS, HEAD_DIM, BLOCK_H, BLOCK_D)
        part = tl.program_id(0).to(tl.int64) * 2 + which
        store_token(grad_weight_parts, grad_weight_HD, part, NUM_HEADS, HEAD_DIM, BLOCK_H, BLOCK_D)
