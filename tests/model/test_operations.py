"""Injected layer classes: fused norm and RoPE where weights may be read, the layers' own forward where not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from harmony_core.model import HarmonyTransformer, layers
from harmony_core.ops import registry
from tests.model.test_transformer import call, inputs, random_model, small_config


def run(model: HarmonyTransformer, values: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return call(model, **values)


def test_self_attention_runs_the_registry_op(monkeypatch: pytest.MonkeyPatch):
    """Video (3-D RoPE) and audio (1-D) through `qk_norm_rope`: once per block, equal to the naive op."""
    config = small_config()
    model, values = random_model(config), inputs(config, batch=2)
    calls = []

    def counted(*arguments):
        calls.append(arguments[0].shape)
        return registry.implementation("qk_norm_rope", "naive")(*arguments)

    expected = run(model, values)
    monkeypatch.setattr(registry, "qk_norm_rope", counted)
    found = run(model, values)
    assert calls == [(2, 18, 48), (2, 27, 48)] * config.num_layers
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


class PatchedRMSNorm(layers.RMSNorm):
    """Its weight is complete only in `forward`, as under a host that patches or fetches weights there."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(x, self.normalized_shape, self.weight + 1, self.eps)


def test_a_namespace_without_the_op_is_called_through_its_layers():
    kinds = ("Conv1d", "Conv3d", "Embedding", "LayerNorm", "Linear")
    operations = SimpleNamespace(**{kind: getattr(layers, kind) for kind in kinds}, RMSNorm=PatchedRMSNorm)
    config = small_config()
    plain, patched = random_model(config), HarmonyTransformer(config, operations=operations)
    patched.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for module in patched.modules():
            if isinstance(module, PatchedRMSNorm):
                module.weight.sub_(1)
    values = inputs(config, batch=1)
    for one, other in zip(run(patched, values), run(plain, values), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
