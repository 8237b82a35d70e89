"""RoPE and RMS norm: fast twins against naive ones, values and gradients."""

from __future__ import annotations

import pytest
import torch

from harmony_core.ops.norm import rms_norm, rms_norm_naive
from harmony_core.ops.rope import apply_rope, apply_rope_naive, rope_table


@pytest.mark.parametrize("rotated", [2, 6, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rope_matches_naive(rotated: int, dtype: torch.dtype):
    x = torch.randn(2, 7, 3, 10, dtype=dtype, requires_grad=True)
    table = rope_table(torch.rand(2, 7) * 50 - 10, rotated)
    fast, naive = apply_rope(x, table), apply_rope_naive(x, table)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(fast, naive, atol=tolerance, rtol=tolerance)
    weight = torch.randn_like(fast)
    for one, other in zip(torch.autograd.grad(fast, x, weight), torch.autograd.grad(naive, x, weight), strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


def test_rope_keeps_lengths_and_unrotated_channels():
    x = torch.randn(1, 5, 2, 12)
    y = apply_rope(x, rope_table(torch.arange(5)[None] * 1.0, 4))
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(y[..., 4:], x[..., 4:])
    assert torch.equal(y[:, 0], x[:, 0])


def test_rope_depends_on_distance_only():
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(p: float, r: float) -> float:
        one, other = (
            apply_rope(x, rope_table(torch.tensor([[at]], dtype=torch.float64), 8)) for x, at in ((q, p), (k, r))
        )
        return float((one * other).sum())

    assert score(3.5, 1.25) == pytest.approx(score(103.5, 101.25), abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 5, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_matches_naive(shape: tuple[int, ...], dtype: torch.dtype):
    x = (torch.randn(shape) * 3).to(dtype).requires_grad_()
    weight = torch.randn(shape[-1]).to(dtype).requires_grad_()
    fast, naive = rms_norm(x, weight, 1e-6), rms_norm_naive(x, weight, 1e-6)
    tolerance = 2e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(fast, naive, atol=tolerance, rtol=tolerance)
    upstream = torch.randn(shape).to(dtype)
    pairs = zip(
        torch.autograd.grad(fast, (x, weight), upstream),
        torch.autograd.grad(naive, (x, weight), upstream),
        strict=True,
    )
    for one, other in pairs:
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
