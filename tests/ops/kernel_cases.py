"""Shared by the kernels' tests: results with gradients, and outputs that start as NaN."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # cpu: Triton's interpreter
DTYPES = [torch.float32, torch.float16]
if DEVICE == "cuda":
    DTYPES.append(torch.bfloat16)  # the interpreter's product of it is wrong


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, device=DEVICE).to(dtype).requires_grad_()


def with_gradients(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> list[Tensor]:
    """Outputs, then the gradients of a fixed weighted sum of them."""
    total = sum(
        (out.float() * torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)).sum() for out in outputs
    )
    return [*outputs, *torch.autograd.grad(total, inputs)]


def assert_agree(results: list[Tensor], expected: list[Tensor]) -> None:
    for result, right in zip(results, expected, strict=True):
        assert result.shape == right.shape
        assert result.dtype == right.dtype
        tolerance = 2e-5 if right.dtype == torch.float32 else 1e-2
        scale = float(right.detach().float().abs().max())
        torch.testing.assert_close(result, right, atol=tolerance * max(scale, 0.05), rtol=tolerance)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fresh floating-point tensor is full of NaN, so that what a kernel forgets to write shows."""
    for name in ("empty", "empty_like"):
        fresh = getattr(torch, name)

        def filled(*args, fresh=fresh, **kwargs):
            out = fresh(*args, **kwargs)
            return out.fill_(float("nan")) if out.is_floating_point() and out.device.type != "meta" else out

        monkeypatch.setattr(torch, name, filled)
