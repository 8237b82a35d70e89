"""Frozen layers that are stored small: what they compute, what they keep, and that a LoRA learns through them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from harmony_core.training.adapters import LoraConfig, add_lora
from harmony_core.training.frozen import (
    HOST,
    STORED,
    StoredLinear,
    bytes_on_host,
    dequantised_linear_naive,
    store_frozen,
)
from tests.model.test_transformer import call, inputs, random_model, small_config


@pytest.mark.parametrize("stored", ["bfloat16", "float8"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_the_naive_ones(stored: str, bias: bool, dtype: torch.dtype) -> None:
    layer = StoredLinear(nn.Linear(13, 7, bias=bias), STORED[stored])
    x, other = (torch.randn(3, 5, 13, dtype=dtype, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    x.requires_grad_()
    other.requires_grad_()
    found, wanted = layer(x), dequantised_linear_naive(other, layer.weight, layer.scale, layer.bias)
    assert torch.equal(found, wanted)
    found.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


def test_eight_bits_are_near_and_a_quarter_of_the_bytes() -> None:
    whole = nn.Linear(64, 48)
    small = StoredLinear(whole, STORED["float8"])
    assert whole.weight.nbytes == 4 * small.weight.nbytes
    x = torch.randn(10, 64)
    error = (small(x) - whole(x)).norm() / whole(x).norm()
    assert error < 0.03


def test_what_is_kept_for_the_gradient_is_what_is_stored() -> None:
    layer, kept = StoredLinear(nn.Linear(32, 16), STORED["float8"]), []
    with saved_tensors_hooks(lambda x: kept.append(x.dtype) or x, lambda x: x):
        layer(torch.randn(4, 32, requires_grad=True))
    assert set(kept) == {torch.float8_e4m3fn, torch.float32}  # and its scales
    assert kept.count(torch.float32) == 1


@pytest.mark.parametrize("stored", ["bfloat16", "float8"])
def test_a_weight_on_the_host_stays_there(stored: str) -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3)).requires_grad_(False)
    store_frozen(model, stored, HOST)
    kept = model[0].weight
    model.to("meta")
    assert model[0].weight is kept
    assert kept.device.type == "cpu"
    assert bytes_on_host(model) == kept.nbytes
    assert {each.device.type for each in (model[0].bias, *model[1].parameters(), *model.buffers())} == {"meta"}
    assert model(torch.zeros(2, 5, device="meta")).device.type == "meta"  # the weight was copied to its inputs
    store_frozen(device := nn.Sequential(nn.Linear(5, 3)).requires_grad_(False), stored)
    assert bytes_on_host(device) == 0


@pytest.mark.parametrize("stored", ["bfloat16", "float8"])
def test_a_lora_learns_through_frozen_layers(stored: str) -> None:
    config = small_config()
    model = random_model(config).to(torch.bfloat16)
    add_lora(model, LoraConfig(rank=2, targets="video"))
    store_frozen(model, stored)
    frozen = [each for each in model.modules() if isinstance(each, StoredLinear)]
    assert {each.weight.dtype for each in frozen} == {STORED[stored]}
    assert {each.dtype for each in model.parameters() if each.requires_grad} == {torch.float32}
    before = [each.weight.clone() for each in frozen]
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.02)
    losses = []
    for _ in range(8):
        video, _ = call(model, **inputs(config, batch=2))
        loss = (video - 1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(each.weight.float(), old.float()) for each, old in zip(frozen, before, strict=True))
