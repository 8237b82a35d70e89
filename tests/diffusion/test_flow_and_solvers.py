"""Schedule and solvers."""

from __future__ import annotations

import pytest
import torch

from harmony_core.diffusion.flow import add_noise, shift_sigma, sigmas
from harmony_core.diffusion.latents import AVLatents, draw_noise
from harmony_core.diffusion.solvers import SOLVERS, solver


def test_schedule_ends_and_falls():
    for steps, shift in ((1, 1.0), (7, 3.0), (40, 5.0), (1000, 5.0)):
        schedule = sigmas(steps, shift)
        assert len(schedule) == steps + 1
        assert schedule[0] == 1
        assert schedule[-1] == 0
        assert (schedule.diff() < 0).all()


def test_schedule_takes_the_table_of_comfyui_simple():
    """Entry -(1 + int(i * 1000 / steps)) of sigma(n / 1000), n = 1 .. 1000."""
    schedule = sigmas(40, 5.0)
    for step in (1, 13, 39):
        level = (1000 - int(step * 1000 / 40)) / 1000
        assert float(schedule[step]) == pytest.approx(5 * level / (1 + 4 * level), abs=1e-6)


@pytest.mark.parametrize(("steps", "shift", "words"), [(0, 5.0, "steps is 0"), (1001, 5.0, "1001"), (4, 0.0, "shift")])
def test_schedule_errors_name_the_value(steps: int, shift: float, words: str):
    with pytest.raises(ValueError, match=words):
        sigmas(steps, shift)


def test_shift_one_is_identity_and_noise_is_linear():
    level = torch.linspace(0, 1, 5)
    torch.testing.assert_close(shift_sigma(level, 1.0), level)
    clean, noise = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(add_noise(clean, noise, torch.tensor(0.25)), 0.75 * clean + 0.25 * noise)


def toy_denoise(x: AVLatents, sigma: torch.Tensor, _: int) -> AVLatents:
    """The exact clean estimate for data of mean 1 and deviation 0.5: a smooth, nonlinear-in-time ODE."""
    sigma = float(sigma)
    gain = (1 - sigma) * 0.25 / ((1 - sigma) ** 2 * 0.25 + sigma**2)
    return x.map(lambda x: 1 + gain * (x - (1 - sigma)))


def run(name: str, steps: int) -> torch.Tensor:
    noise = draw_noise((1, 1, 1, 2, 2), (1, 1, 3), seed=0).map(lambda x: x.double())
    result = solver(name)(toy_denoise, noise, sigmas(steps, 1.0).double(), lambda *_: None)
    exact = noise.map(lambda x: 1 + 0.5 * x)
    return torch.cat([(result.video - exact.video).flatten(), (result.audio - exact.audio).flatten()]).abs().max()


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("dpmpp_2m", 2)])
def test_order_of_convergence(name: str, order: int):
    coarse, fine = run(name, 50), run(name, 100)
    assert fine < coarse / 2**order * 1.35
    assert fine < 0.02


def test_callback_sees_every_step_and_unknown_solver_is_an_error():
    for name in SOLVERS:
        seen = []
        noise = draw_noise((1, 1, 1, 1, 1), (1, 1, 1), 0)
        solver(name)(toy_denoise, noise, sigmas(3, 2.0), lambda step, _, seen=seen: seen.append(step))
        assert seen == [0, 1, 2]
    with pytest.raises(ValueError, match=r"'rk45'.*euler"):
        solver("rk45")


def test_noise_is_drawn_video_first():
    generator = torch.Generator().manual_seed(7)
    noise = draw_noise((1, 2, 3, 4, 5), (1, 2, 6), seed=7)
    assert torch.equal(noise.video, torch.randn(1, 2, 3, 4, 5, generator=generator))
    assert torch.equal(noise.audio, torch.randn(1, 2, 6, generator=generator))
