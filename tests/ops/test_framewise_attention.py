"""Frame-wise attention: every implementation against the naive one, values and gradients, at odd sizes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from harmony_core.geometry import a2v_windows, group_windows, v2a_windows
from harmony_core.ops.framewise_attention import framewise_attention_naive, framewise_attention_sdpa
from harmony_core.ops.rope import rope_table
from harmony_core.presets import preset

CASES = {
    "one_query": ((0, 1, 0, 1),),
    "uneven": ((0, 3, 0, 5), (3, 4, 2, 5), (4, 11, 2, 13)),
    "gap_free_odd": ((0, 7, 0, 3), (7, 14, 1, 9), (14, 15, 8, 17)),
}


def draw(groups, heads: int, head_dim: int, batch: int = 2):
    queries, keys = groups[-1][1], max(group[3] for group in groups) + 1  # one key that no query sees
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(batch, length, heads, head_dim, generator=generator, requires_grad=True)
        for length in (queries, keys, keys)
    ]


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize(("heads", "head_dim"), [(1, 2), (3, 6), (5, 32)])
@pytest.mark.parametrize("groups", CASES.values(), ids=CASES)
def test_sdpa_matches_naive(groups, heads: int, head_dim: int, rotate: bool):
    q, k, v = draw(groups, heads, head_dim)
    tables = (None, None)
    if rotate:
        tables = tuple(rope_table(torch.arange(x.shape[1])[None] * 0.7, max(2, head_dim // 3 * 2)) for x in (q, k))
    outputs, gradients = [], []
    for op in (framewise_attention_naive, framewise_attention_sdpa):
        out = op(q, k, v, groups, *tables)
        weight = torch.linspace(-1, 1, out.numel()).view_as(out)
        gradients.append(torch.autograd.grad((out * weight).sum(), (q, k, v)))
        outputs.append(out)
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-5)
    for fast, naive in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(fast, naive, atol=1e-5, rtol=1e-4)


def test_a_key_outside_every_window_gets_no_gradient_and_has_no_influence():
    groups = CASES["uneven"]
    q, k, v = draw(groups, 2, 4)
    out = framewise_attention_sdpa(q, k, v, groups)
    (gradient,) = torch.autograd.grad(out.sum(), v)
    assert gradient[:, -1].abs().max() == 0
    poisoned = v.detach().clone()
    poisoned[:, -1] = float("nan")
    torch.testing.assert_close(framewise_attention_sdpa(q, k, poisoned, groups), out)


def test_windows_of_a_real_clip():
    """Both directions at the embedded checkpoint's lengths."""
    config = preset("harmony-tiny")
    tokens = 16
    a2v = tuple((i * tokens, (i + 1) * tokens, *window) for i, window in enumerate(a2v_windows(7, 50, config)))
    v2a = tuple((*run[:2], run[2] * tokens, run[3] * tokens) for run in group_windows(v2a_windows(7, 50, config)))
    for groups, keys in ((a2v, 50), (v2a, 7 * tokens)):
        assert groups[0][0] == 0
        assert all(before[1] == after[0] for before, after in pairwise(groups))
        assert max(group[3] for group in groups) == keys
        q, k, v = (torch.randn(1, length, 2, 8) for length in (groups[-1][1], keys, keys))
        torch.testing.assert_close(
            framewise_attention_sdpa(q, k, v, groups), framewise_attention_naive(q, k, v, groups), atol=1e-5, rtol=1e-5
        )
