"""Guidances at equal passes: what a way costs, that runs go on, and that ways are held against the same scenes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harmony_core.benchmarks.guidance import NONE, WAYS, Way, compare, measures, summary
from harmony_core.benchmarks.quality import held_out
from harmony_core.diffusion.guidance import SyncCFG
from harmony_core.pipelines import HarmonyPipeline


@pytest.fixture(scope="module")
def pipeline(random_checkpoint: Path) -> HarmonyPipeline:
    return HarmonyPipeline.from_file(random_checkpoint)


def test_passes_of_a_step_are_those_of_the_plan() -> None:
    passes = {way.name: way.passes_per_step for way in WAYS}
    assert passes[NONE] == 1
    assert passes["text 1.5"] == passes["isolated 3"] == 2
    assert passes["sync 3"] == passes["text 2 + isolated 1.5"] == 3
    assert passes["text 2 + isolated 1.5 + sync 1.5"] == 5
    assert Way.of("sync 1 3").passes_per_step == Way.of("text 1 3").passes_per_step == 2


def test_a_way_is_made_of_its_name() -> None:
    assert [Way.of(way.name) for way in WAYS] == list(WAYS)
    assert Way.of("sync 1.5 3").scales == (("sync", 1.5, 3.0),)
    assert Way.of("text 2 + sync 1 3").name == "text 2 + sync 1 3"
    assert Way.of("sync 1.5 3").guidances()[0] == SyncCFG(video_scale=1.5, audio_scale=3.0)
    for name in ("", "loud 2", "text", "text 2 + text 3", "text 1", "text 1 1", "sync 1 2 3", "text 2, sync 1.5"):
        with pytest.raises(ValueError, match=re.escape(f"{name!r} is no way")):
            Way.of(name)


def row(way: str, seed: int, metric: str, value: float) -> dict[str, object]:
    return {"way": way, "budget": 4, "steps": 1, "passes": 3, "seed": seed, "metric": metric, "value": value}


def test_a_clip_without_a_value_is_left_out_and_no_zero() -> None:
    rows = [row(NONE, 0, "wer", 0.5), row("sync 1.5", 0, "wer", 0.25), row("sync 1.5", 1, "wer", 0.75)]
    lines = {(line["way"], line["metric"]): line for line in summary([*rows, row("sync 1.5", 1, "lag", 3.0)])}
    assert lines["sync 1.5", "wer"]["mean"] == 0.5
    assert lines["sync 1.5", "wer"]["more"] == -0.25  # of the one clip that both have
    assert lines["sync 1.5", "lag"]["more"] is None


def test_no_way_has_more_passes_than_its_budget_and_a_run_goes_on(pipeline: HarmonyPipeline) -> None:
    ways = (Way(), Way.of("sync 1.5"))
    rows = [row for made in compare(pipeline, 2, (4,), set(), ways) for row in made]
    assert {(row["way"], row["steps"], row["passes"]) for row in rows} == {(NONE, 4, 4), ("sync 1.5", 1, 3)}
    done = {(row["way"], row["budget"], row["seed"]) for row in rows}
    assert list(compare(pipeline, 2, (4,), done, ways)) == []
    table = {(line["way"], line["metric"]): line for line in summary(rows)}
    assert table[NONE, "sync"]["more"] == 0
    assert table["sync 1.5", "obedience"]["scenes"] == 2


def test_a_budget_below_a_step_is_an_error(pipeline: HarmonyPipeline) -> None:
    with pytest.raises(ValueError, match=r"2 passes.*takes 3"):
        next(compare(pipeline, 2, (2,), set(), (Way.of("sync 1.5"),)))


def test_ground_truth_is_round_and_still_and_an_egg_is_not() -> None:
    (scene,) = held_out(1, reference_seconds=0.48)
    video, audio = scene.clip.video, scene.clip.audio
    truth = measures(scene, (video, audio))
    assert truth["roundness"] > 0.9
    assert truth["disc_overlap"] > 0.94
    assert truth["shimmer"] == 0
    squeezed = np.full_like(video, video[0, 0, 0])
    squeezed[:, :, 16:48] = video[:, :, ::2]
    squeezed[:, 52:] = video[:, 52:]
    assert measures(scene, (squeezed, audio))["roundness"] < 0.75
