"""Which implementation runs, why, and who may decide."""

from __future__ import annotations

import logging

import pytest
import torch

from harmony_core.ops import registry
from harmony_core.ops.framewise_attention import framewise_attention_naive, framewise_attention_sdpa
from harmony_core.ops.qk_norm_rope.torch_ import qk_norm_rope_torch

GROUPS = ((0, 3, 0, 5), (3, 7, 2, 9))
OP = "framewise_attention"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARMONY_FRAMEWISE_ATTENTION", raising=False)
    monkeypatch.setattr(registry, "_resolved", {})
    monkeypatch.setattr(registry, "_forced", {})


def draw() -> list[torch.Tensor]:
    return [torch.randn(2, length, 2, 4, requires_grad=True) for length in (7, 9, 9)]


def test_cpu_runs_torch_and_says_so_once(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, registry.__name__):
        for _ in range(2):
            assert registry.resolve(OP, "cpu") is framewise_attention_sdpa
    assert len(caplog.messages) == 1
    assert "framewise_attention on cpu: sdpa" in caplog.messages[0]
    assert registry.resolve("qk_norm_rope", "cpu") is qk_norm_rope_torch
    q, k, v = draw()
    assert torch.equal(registry.framewise_attention(q, k, v, GROUPS), framewise_attention_sdpa(q, k, v, GROUPS))


def test_environment_decides(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HARMONY_FRAMEWISE_ATTENTION", "naive")
    assert registry.resolve(OP, "cpu") is framewise_attention_naive


def test_use_decides_over_the_environment_until_taken_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HARMONY_FRAMEWISE_ATTENTION", "sdpa")
    registry.use(OP, "naive")
    assert registry.resolve(OP, "cpu") is framewise_attention_naive
    registry.use(OP, None)
    assert registry.resolve(OP, "cpu") is framewise_attention_sdpa


def test_unknown_names_are_errors_that_list_the_known_ones(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match=r"'fastest'.*sdpa, naive, triton"):
        registry.use(OP, "fastest")
    with pytest.raises(ValueError, match=r"'attention'.*framewise_attention, qk_norm_rope"):
        registry.use("attention", "sdpa")
    monkeypatch.setenv("HARMONY_FRAMEWISE_ATTENTION", "fastest")
    with pytest.raises(ValueError, match=r"HARMONY_FRAMEWISE_ATTENTION is 'fastest'.*sdpa, naive, triton"):
        registry.framewise_attention(*draw(), GROUPS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here Triton would really be chosen")
def test_a_device_where_triton_fails_gets_torch_and_the_reason(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, registry.__name__):
        assert registry.resolve(OP, "cuda") is framewise_attention_sdpa
    assert len(caplog.messages) == 1
    assert "Triton failed" in caplog.messages[0]


@pytest.mark.parametrize("op", registry.IMPLEMENTATIONS)
def test_the_self_check_passes_a_right_implementation_and_stops_a_wrong_one(op: str, monkeypatch: pytest.MonkeyPatch):
    """Another implementation stands in for Triton's, which does not run on CPU."""
    names = dict(registry.IMPLEMENTATIONS[op])
    names["triton"] = next(iter(names.values()))
    monkeypatch.setitem(registry.IMPLEMENTATIONS, op, names)
    assert registry.self_check(op, "cpu") == ""
    right = registry.implementation

    def wrong(op: str, name: str):
        function = right(op, name)
        if name != "triton":
            return function
        return lambda *args: torch.utils._pytree.tree_map(lambda x: x * 1.1, function(*args))

    monkeypatch.setattr(registry, "implementation", wrong)
    assert "off by" in registry.self_check(op, "cpu")


def test_dispatch_compiles_without_a_graph_break_even_when_unresolved():
    compiled = torch.compile(registry.framewise_attention, backend="aot_eager", fullgraph=True)
    q, k, v = draw()
    out, expected = compiled(q, k, v, GROUPS), framewise_attention_naive(q, k, v, GROUPS)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(
        torch.autograd.grad(out.square().sum(), (q, k, v)),
        torch.autograd.grad(expected.square().sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
