"""torch.compile of the layers: no graph break, one graph for all layers, no new one at the next step."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from harmony_core.model.compile import compile_layers
from tests.model.test_transformer import call, inputs, random_model, small_config


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@torch.no_grad()
def test_layers_compile_once_and_stay_compiled():
    config = small_config(num_layers=2)
    plain, values = random_model(config), inputs(config, batch=1)
    model = compile_layers(random_model(config), backend="aot_eager", fullgraph=True)
    graphs = []
    for sigma in (0.9, 0.5):
        moved = values | {name: torch.full_like(values[name], sigma) for name in ("sigma_video", "sigma_audio")}
        for one, other in zip(call(model, **moved), call(plain, **moved), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    # attend and finish of each branch, and keys_values and forward of each direction
    assert graphs == [8, 8]
    assert not counters["graph_break"]


def test_training_compiles_too():
    """Forward and backward under gradients, equal to the plain model's."""
    config = small_config(num_layers=1)
    gradients = []
    for compiled in (False, True):
        model = random_model(config)
        if compiled:
            compile_layers(model, backend="aot_eager", fullgraph=True)
        video, audio = call(model, **inputs(config, batch=1))
        (video.square().sum() + audio.square().sum()).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
