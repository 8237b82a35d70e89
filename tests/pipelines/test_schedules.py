"""The shift of the noise schedule against recorded schedules of Wan's and Ovi's own solvers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harmony_core.diffusion.flow import shift_sigma, sigmas

FIXTURES = Path(os.environ.get("HARMONY_FIXTURES", Path(__file__).parents[1] / "fixtures"))
RECORDED = load_file(FIXTURES / "sched" / "sched.safetensors")
CASES = [(50, 5.0), (40, 5.0), (10, 3.0)]


@pytest.mark.parametrize(("steps", "shift"), CASES)
def test_ovis_euler(steps: int, shift: float) -> None:
    """Evenly spaced down to the shifted 1/1000, then shifted again."""
    end = float(shift_sigma(torch.tensor(1e-3), shift))
    expected = RECORDED[f"euler_{steps}_{shift}.sigmas"]
    torch.testing.assert_close(shift_sigma(torch.linspace(1, end, steps), shift), expected[:-1], atol=1e-5, rtol=0)
    assert expected[-1] == 0


@pytest.mark.parametrize(("steps", "shift"), CASES)
def test_wans_unipc(steps: int, shift: float) -> None:
    """Evenly spaced from 999/1000 to 0, then shifted; the model sees whole timesteps."""
    expected = shift_sigma(torch.linspace(0.999, 0, steps + 1), shift)
    torch.testing.assert_close(expected, RECORDED[f"unipc_{steps}_{shift}.sigmas"], atol=1e-5, rtol=0)
    assert torch.equal(
        (1000 * RECORDED[f"unipc_{steps}_{shift}.sigmas"][:-1]).floor(), RECORDED[f"unipc_{steps}_{shift}.timesteps"]
    )


@pytest.mark.parametrize(("steps", "shift"), CASES)
def test_ours_is_near_both(steps: int, shift: float) -> None:
    """ComfyUI's `simple` steps evenly from 1 to 0 in a table of thousandths: within one of them before the shift."""
    expected = shift_sigma(1 - torch.arange(steps + 1) / steps, shift)
    torch.testing.assert_close(sigmas(steps, shift), expected, atol=1e-3 * shift, rtol=0)
