"""Triton RMS norm and RoPE of q and k against the naive ones; run by test_interpreter.py."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import DEVICE, DTYPES, assert_agree, draw, poisoned, with_gradients  # noqa: F401

from harmony_core.ops.qk_norm_rope import triton as op
from harmony_core.ops.qk_norm_rope.naive import qk_norm_rope_naive
from harmony_core.ops.qk_norm_rope.triton import qk_norm_rope_triton
from harmony_core.ops.rope import rope_table


def case(length: int, heads: int, head_dim: int, pairs: int, table_batch: int, dtype=torch.float32):
    width = heads * head_dim
    inputs = [draw(*shape, dtype=dtype) for shape in ((2, length, width), (2, length, width), (width,), (width,))]
    table = tuple(part.to(DEVICE) for part in rope_table(torch.rand(table_batch, length) * 20 - 5, 2 * pairs))
    return inputs, (heads, table, 1e-6)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("length", "heads", "head_dim", "pairs", "table_batch"),
    [(1, 1, 2, 1, 1), (7, 3, 6, 2, 2), (63, 3, 20, 10, 1), (7, 1, 128, 64, 1)],
)
def test_matches_naive(length: int, heads: int, head_dim: int, pairs: int, table_batch: int, dtype: torch.dtype):
    inputs, rest = case(length, heads, head_dim, pairs, table_batch, dtype)
    expected = with_gradients(qk_norm_rope_naive(*inputs, *rest), inputs)
    assert_agree(with_gradients(qk_norm_rope_triton(*inputs, *rest), inputs), expected)


@pytest.mark.usefixtures("poisoned")
def test_a_program_walks_several_rows_the_same_way_each_time(monkeypatch: pytest.MonkeyPatch):
    """More rows than partial sums, the last program with fewer."""
    monkeypatch.setattr(op, "NUM_PARTS", 4)
    inputs, rest = case(7, 3, 6, 2, 1)
    once, again = (with_gradients(qk_norm_rope_triton(*inputs, *rest), inputs) for _ in range(2))
    assert_agree(once, with_gradients(qk_norm_rope_naive(*inputs, *rest), inputs))
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))


def test_torch_library_accepts_the_op_and_it_compiles_without_a_graph_break():
    inputs, (heads, table, eps) = case(7, 3, 6, 2, 1)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    torch.library.opcheck(op._forward, (*inputs, heads, *table, eps), test_utils=tests)
    compiled = torch.compile(qk_norm_rope_triton, backend="aot_eager", fullgraph=True)
    expected = with_gradients(qk_norm_rope_triton(*inputs, heads, table, eps), inputs)
    assert_agree(with_gradients(compiled(*inputs, heads, table, eps), inputs), expected)


def test_unequal_shapes_are_an_error():
    (q, k, *weights), rest = case(7, 3, 6, 2, 1)
    with pytest.raises(ValueError, match=r"\(2, 7, 18\).*\(2, 6, 18\)"):
        qk_norm_rope_triton(q, k[:, :6], *weights, *rest)
