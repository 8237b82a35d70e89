"""RMS norm and RoPE of q and k: the torch implementation against the naive one (Triton's: test_interpreter.py)."""

from __future__ import annotations

import pytest
import torch

from harmony_core.ops.qk_norm_rope.naive import qk_norm_rope_naive
from harmony_core.ops.qk_norm_rope.torch_ import qk_norm_rope_torch
from harmony_core.ops.rope import rope_table


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("length", "heads", "head_dim", "rotated"), [(1, 1, 2, 2), (7, 3, 6, 4), (63, 5, 32, 32)])
def test_torch_matches_naive(length: int, heads: int, head_dim: int, rotated: int, dtype: torch.dtype):
    width = heads * head_dim
    shapes = ((2, length, width), (2, length, width), (width,), (width,))
    inputs = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    table = rope_table(torch.rand(2, length) * 20 - 5, rotated)
    results = []
    for op in (qk_norm_rope_naive, qk_norm_rope_torch):
        q, k = op(*inputs, heads, table, 1e-6)
        assert q.shape == k.shape == (2, length, heads, head_dim)
        weight = torch.linspace(-1, 1, q.numel()).view_as(q)
        results.append([q, k, *torch.autograd.grad(((q - 2 * k).float() * weight).sum(), inputs)])
    tolerance = 2e-5 if dtype == torch.float32 else 5e-2
    for fast, naive in zip(results[1], results[0], strict=True):
        assert fast.dtype == dtype
        torch.testing.assert_close(fast, naive, atol=tolerance, rtol=tolerance)
