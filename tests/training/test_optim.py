"""Which parameters each optimiser has, and that all of them learn and are resumed exactly."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from harmony_core.training import optim
from harmony_core.training.adapters import LoraConfig
from harmony_core.training.config import TrainingConfig
from harmony_core.training.gradients import drop_zero_gradients
from harmony_core.training.muon import Muon, orthogonalize
from harmony_core.training.optim import check_optimizer, make_optimizers, rate
from harmony_core.training.sections import OPTIMIZERS, DataConfig, OptimizerConfig, StartConfig

SIZE = 72  # bitsandbytes keeps what has under 4096 numbers in 32 bits


class Layered(torch.nn.Module):
    """Parameters under the transformer's names: matrices and biases of a layer, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = torch.nn.ModuleDict(
            {"blocks": torch.nn.ModuleList([torch.nn.Linear(SIZE, SIZE)]), "head": torch.nn.Linear(SIZE, SIZE)}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.transformer["head"](self.transformer["blocks"][0](x))


def config_of(kind: str) -> OptimizerConfig:
    if kind == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    return OptimizerConfig(kind=kind, adamw_lr=1e-3, muon_lr=0.01)


def training_config(kind: str) -> TrainingConfig:
    return TrainingConfig(preset="harmony-tiny", steps=1, batch_size=1, optimizer=OptimizerConfig(kind=kind))


def train(model: Layered, optimizers: list[torch.optim.Optimizer], steps: range) -> list[float]:
    losses = []
    for step in steps:
        x = torch.randn(16, SIZE, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x.roll(1, dims=1)).square().mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_parameter_has_one_optimiser_and_learns(kind: str) -> None:
    model = Layered()
    optimizers = make_optimizers(model.named_parameters(), config_of(kind))
    held = [id(each) for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert isinstance(optimizers[0], Muon) == (kind == "muon")
    losses = train(model, optimizers, range(60))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_state_that_was_saved_goes_on_exactly(kind: str) -> None:
    config, whole = config_of(kind), Layered()
    optimizers = make_optimizers(whole.named_parameters(), config)
    train(whole, optimizers, range(3))
    resumed = Layered()
    resumed.load_state_dict(whole.state_dict())
    states = deepcopy([optimizer.state_dict() for optimizer in optimizers])
    others = make_optimizers(resumed.named_parameters(), config)
    for optimizer, state in zip(others, states, strict=True):
        optimizer.load_state_dict(state)
    assert train(resumed, others, range(3, 6)) == train(whole, optimizers, range(3, 6))


def test_moments_take_a_quarter_of_the_memory_in_8_bits() -> None:
    def moments(kind: str) -> int:
        model = Layered()
        optimizers = make_optimizers(model.named_parameters(), config_of(kind))
        train(model, optimizers, range(1))
        states = [optimizer.state[model.transformer["head"].weight] for optimizer in optimizers]
        names = ("exp_avg", "exp_avg_sq", "state1", "state2")
        return sum(state[name].nbytes for state in states for name in names if name in state)

    assert moments("adamw") == 4 * moments("adamw_8bit")


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_is_frozen_has_no_optimiser(kind: str) -> None:
    model = Layered()
    model.transformer["blocks"].requires_grad_(False)
    before = model.transformer["blocks"][0].weight.clone()
    train(model, make_optimizers(model.named_parameters(), config_of(kind)), range(2))
    assert torch.equal(model.transformer["blocks"][0].weight, before)


def test_an_optimiser_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "find_spec", lambda name: None if name == "bitsandbytes" else find_spec(name))
    with pytest.raises(ValueError, match="adamw_8bit, which bitsandbytes computes, and that is not installed; pip"):
        check_optimizer(training_config("adamw_8bit"))
    check_optimizer(training_config("adamw"))


def test_muon_does_not_train_a_lora() -> None:
    start, lora = StartConfig(model="harmony-tiny"), LoraConfig()
    muon = replace(training_config("muon"), preset="", start=start, lora=lora, data=DataConfig(shards="x"))
    with pytest.raises(ValueError, match=r"kind is muon.*lora.*to adamw"):
        check_optimizer(muon)


def test_a_rate_warms_up_stays_and_decays() -> None:
    config = OptimizerConfig(warmup_steps=4, decay_share=0.5)
    assert [rate(step, 20, config) for step in (0, 3, 10, 15, 19)] == [0.25, 1.0, 1.0, 0.5, 0.1]
    constant = OptimizerConfig(warmup_steps=0, decay_share=0)
    assert {rate(step, 20, constant) for step in range(20)} == {1.0}


@pytest.mark.parametrize("shape", [(2, 9, 9), (1, 5, 13), (3, 17, 4)])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, ...]):
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
    assert values.max() < 1.3
    assert values.min() > 0.3


def test_muon_descends():
    torch.manual_seed(0)
    target, parameter = torch.randn(8, 6), torch.nn.Parameter(torch.zeros(8, 6))
    optimizer = Muon([parameter], lr=0.05)
    losses = []
    for _ in range(60):
        loss = (parameter - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_what_a_step_did_not_use_is_not_moved(kind: str):
    """Style alignment in a step without a reference: its gradients are zero, its momentum is not."""
    used, unused = (torch.nn.Parameter(torch.randn(6, 4)) for _ in range(2))
    optimizer = (
        Muon([used, unused], lr=0.1) if kind == "muon" else torch.optim.AdamW([used, unused], lr=0.1, weight_decay=0.1)
    )
    moved = []
    for share in (1.0, 0.0, 0.0, 1.0):
        before = used.detach().clone(), unused.detach().clone()
        (used.square().sum() + share * unused.square().sum()).backward()
        drop_zero_gradients([used, unused])
        optimizer.step()
        optimizer.zero_grad()
        moved.append((not torch.equal(used, before[0]), not torch.equal(unused, before[1])))
    assert moved == [(True, True), (True, False), (True, False), (True, True)]
