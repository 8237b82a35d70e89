"""Benchmarks: what they count and compare. Nothing here depends on how fast the machine is."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from harmony_core.benchmarks import ops
from harmony_core.benchmarks.charts import framewise_curves, log_plot
from harmony_core.benchmarks.model import Job, ModelOptions, flops
from harmony_core.benchmarks.timing import Meter, comparison, take_turns
from harmony_core.diffusion.guidance import SyncCFG

CPU = torch.device("cpu")


def test_flops_of_attention_are_counted_on_cpu():
    q, k, v = (torch.randn(1, 2, length, 32) for length in (64, 48, 48))
    with torch.inference_mode():
        assert flops(lambda: scaled_dot_product_attention(q, k, v)) == 4 * 2 * 64 * 48 * 32


def test_a_synccfg_step_with_cached_drivers_costs_about_two_joint_passes():
    """At a 720p clip's layout at a quarter of its size; the static anchor's video stream is not run again."""
    job = Job.build(ModelOptions(CPU, 1, True), seconds=1, patches=(6, 10))
    guided, plain = job.step(SyncCFG(video_scale=3.0, audio_scale=2.0)), job.step()
    first, later, joint = flops(guided), flops(guided), flops(plain)
    assert later <= 2.1 * joint
    assert first > 2.5 * joint


def test_a_driven_step_after_the_first_costs_little():
    job = Job.build(ModelOptions(CPU, 1, True), seconds=1, patches=(6, 10))
    driven, plain = job.step(video_given=True), job.step()
    first, later, joint = flops(driven), flops(driven), flops(plain)
    assert later <= 0.15 * joint
    assert first > 0.5 * joint


def test_ways_take_turns_and_the_warm_up_does_not_count():
    calls = []
    rows = take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 2, Meter(CPU))
    assert calls == ["a", "b"] * 3
    assert rows["a"]["repeats"] == 2
    with pytest.raises(ValueError, match="repeats is 0"):
        take_turns({}, 0, Meter(CPU))


def test_a_comparison_is_ours_over_peer():
    assert comparison("x", 1.0, 4.0, "s") == {"name": "x", "ours": 1.0, "peer": 4.0, "ratio": 0.25, "unit": "s"}


def test_op_rows_give_the_fixed_names_and_a_picture():
    measured = {"seconds_p50": 0.5, "peak_mb": 3.0, "op": "framewise_attention", "mode": "forward"}
    rows = [
        {**measured, "direction": direction, "way": way, "clip_seconds": seconds}
        for direction in ("a2v", "v2a")
        for way in ("ours", "global")
        for seconds in (2, 20)
    ]
    lines = {line["name"]: line for line in ops.comparisons(rows)}
    assert lines["framewise_20s"]["ours"] == 1.0
    assert lines["framewise_growth_2s_to_20s"]["ratio"] == 0.1
    curves = framewise_curves(rows, "forward", "peak_mb")
    assert curves == {"ours": [(2, 6.0), (20, 6.0)], "global": [(2, 6.0), (20, 6.0)]}
    picture = log_plot(curves | {"flat": [(2, 60.0), (20, 600.0)]}, "title", "s", "MB")
    assert len(picture.getcolors(1 << 20)) > 8
