"""Triton frame-wise attention against the naive one; run by test_interpreter.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from kernel_cases import DEVICE, DTYPES, assert_agree, draw, poisoned, with_gradients  # noqa: F401

from harmony_core.ops.framewise_attention import triton as op
from harmony_core.ops.framewise_attention import triton_kernels
from harmony_core.ops.framewise_attention.naive import framewise_attention_naive
from harmony_core.ops.framewise_attention.triton import framewise_attention_triton
from harmony_core.ops.rope import rope_table
from harmony_core.ops.tables import cached_tables

GROUPS = {
    1: ((0, 1, 0, 1),),
    7: ((0, 3, 0, 5), (3, 4, 2, 5), (4, 7, 6, 13)),  # key 5 lies in no window
    63: ((0, 40, 0, 30), (40, 62, 20, 63), (62, 63, 40, 63)),
}


def table(length: int, pairs: int, batch: int):
    if not pairs:
        return None
    positions = torch.rand(batch, length) * 20 - 5
    return tuple(part.to(DEVICE) for part in rope_table(positions, 2 * pairs))


def case(length: int, heads: int, head_dim: int, pairs: int, table_batch: int, dtype=torch.float32):
    """Inputs (q, k, v) and the rest, with one key more than any window holds."""
    groups = GROUPS[length]
    keys = groups[-1][3] + 1
    inputs = [draw(2, n, heads, head_dim, dtype=dtype) for n in (length, keys, keys)]
    return inputs, (groups, table(length, pairs, table_batch), table(keys, pairs, 3 - table_batch))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("length", "heads", "head_dim", "pairs", "table_batch"),
    [(1, 3, 6, 3, 1), (1, 1, 128, 0, 1), (7, 1, 20, 4, 2), (7, 3, 6, 0, 1), (63, 3, 32, 6, 1), (63, 1, 128, 22, 2)],
)
def test_matches_naive(length: int, heads: int, head_dim: int, pairs: int, table_batch: int, dtype: torch.dtype):
    inputs, rest = case(length, heads, head_dim, pairs, table_batch, dtype)
    expected = with_gradients((framewise_attention_naive(*inputs, *rest),), inputs)
    assert_agree(with_gradients((framewise_attention_triton(*inputs, *rest),), inputs), expected)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("framewise_attention_fwd_kernel", triton_kernels.FORWARD_CONFIGS),
        ("framewise_attention_bwd_kernel_dq", triton_kernels.QUERY_GRADIENT_CONFIGS),
        ("framewise_attention_bwd_kernel_dkv", triton_kernels.KEY_GRADIENT_CONFIGS),
    ],
)
def test_every_configuration_gives_the_same(name: str, choices: list, monkeypatch: pytest.MonkeyPatch):
    inputs, rest = case(63, 1, 20, 4, 1)
    expected = with_gradients((framewise_attention_naive(*inputs, *rest),), inputs)
    for choice in choices + triton_kernels.FLOAT32_CONFIGS:
        monkeypatch.setattr(getattr(triton_kernels, name), "configs", [choice])  # a single one is not pruned
        assert_agree(with_gradients((framewise_attention_triton(*inputs, *rest),), inputs), expected)


def test_backward_is_deterministic():
    inputs, rest = case(63, 3, 32, 6, 1)
    once, again = (with_gradients((framewise_attention_triton(*inputs, *rest),), inputs) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))


def test_a_backward_pass_with_the_tables_of_a_sampler_under_inference_mode():
    inputs, (groups, *_) = case(7, 3, 20, 4, 1)
    groups = [*groups[:-1], (*groups[-1][:3], groups[-1][3] - 1)]  # of no other test, so that nothing is cached yet
    cached = cached_tables(table)

    def tables():
        return cached(7, 4, 1), cached(inputs[1].shape[1], 4, 1)

    with torch.inference_mode():
        framewise_attention_triton(*inputs, groups, *tables())
    expected = with_gradients((framewise_attention_naive(*inputs, groups, *tables()),), inputs)
    assert_agree(with_gradients((framewise_attention_triton(*inputs, groups, *tables()),), inputs), expected)


def test_any_strides():
    inputs, rest = case(7, 3, 6, 2, 1)
    expected = framewise_attention_naive(*inputs, *rest)
    head_first = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs]
    size_first = [x.transpose(1, 3).contiguous().transpose(1, 3) for x in inputs]
    for views in (head_first, size_first):
        assert_agree([framewise_attention_triton(*views, *rest)], [expected])


def test_a_key_outside_every_window_has_no_influence_and_no_gradient():
    (q, k, v), rest = case(7, 1, 6, 2, 1)
    with torch.no_grad():
        expected = framewise_attention_triton(q, k, v, *rest)
        k[:, 5], v[:, 5] = 1e4, 1e4
    out, _, grad_k, grad_v = with_gradients((framewise_attention_triton(q, k, v, *rest),), [q, k, v])
    assert_agree([out], [expected])
    assert grad_v[:, 5].abs().max() == 0
    assert grad_k[:, 6:].isfinite().all()


def test_nan_behind_the_last_window_stays_there():
    """The last key lies in the tiles of the last queries, but in no window."""
    (q, k, v), rest = case(7, 1, 6, 2, 1)
    with torch.no_grad():
        expected = framewise_attention_triton(q, k, v, *rest)
        k[:, 13], v[:, 13] = float("nan"), float("nan")
    out, grad_q, grad_k, grad_v = with_gradients((framewise_attention_triton(q, k, v, *rest),), [q, k, v])
    assert_agree([out], [expected])
    assert all(grad[:, :13].isfinite().all() for grad in (grad_q, grad_k, grad_v))


def test_torch_library_accepts_the_ops():
    (q, k, v), (groups, rope_q, rope_k) = case(7, 1, 6, 2, 1)
    flat = [edge for group in groups for edge in group]
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    torch.library.opcheck(op._forward, (q, k, v, flat, *rope_q, *rope_k), test_utils=tests)
    torch.library.opcheck(op._forward, (q, k, v, flat, None, None, None, None), test_utils=tests)


def test_compiles_without_a_graph_break():
    inputs, rest = case(7, 1, 6, 2, 1)
    compiled = torch.compile(framewise_attention_triton, backend="aot_eager", fullgraph=True)
    expected = with_gradients((framewise_attention_triton(*inputs, *rest),), inputs)
    assert_agree(with_gradients((compiled(*inputs, *rest),), inputs), expected)


def test_errors_name_values():
    (q, k, v), (groups, rope_q, rope_k) = case(7, 1, 6, 2, 1)
    with pytest.raises(ValueError, match="130 is above 128"):
        framewise_attention_triton(*(draw(1, 1, 1, 130) for _ in range(3)), GROUPS[1])
    with pytest.raises(ValueError, match="float16"):
        framewise_attention_triton(q, k.half(), v, groups)
    with pytest.raises(ValueError, match="cover 7 queries"):
        framewise_attention_triton(q, k, v, groups[:2])
    with pytest.raises(ValueError, match="monotone"):
        framewise_attention_triton(q, k, v, ((0, 3, 4, 9), (3, 7, 2, 9)))
    with pytest.raises(ValueError, match="empty"):
        framewise_attention_triton(q, k, v, ((0, 7, 4, 4),))
    with pytest.raises(ValueError, match="does not fit"):
        framewise_attention_triton(q, k, v, groups, rope_k, rope_q)


def test_a_second_copy_of_the_package_registers_its_own_ops(tmp_path: Path):
    """ComfyUI loads the pack under another name than `import harmony_core` does."""
    package = Path(op.__file__).parents[2]
    (tmp_path / "node-pack").mkdir()
    (tmp_path / "node-pack" / "__init__.py").write_text("")
    (tmp_path / "node-pack" / "harmony_core").symlink_to(package)
    spec = importlib.util.spec_from_file_location("node-pack", tmp_path / "node-pack" / "__init__.py")
    sys.modules["node-pack"] = importlib.util.module_from_spec(spec)
    sys.modules["node-pack"].__path__ = [str(tmp_path / "node-pack")]
    other = importlib.import_module("node-pack.harmony_core.ops.framewise_attention.triton")
    inputs, rest = case(1, 1, 6, 2, 1)
    assert_agree([other.framewise_attention_triton(*inputs, *rest)], [framewise_attention_triton(*inputs, *rest)])
    assert other._forward._qualname != op._forward._qualname
