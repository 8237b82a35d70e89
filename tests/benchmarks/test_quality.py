"""The quality bench: what it scores, and that it can tell truth from chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harmony_core.benchmarks.quality import (
    CASES,
    bootstrap_interval,
    markdown,
    read_rows,
    run_cases,
    summary,
    without_style,
    write_rows,
)
from harmony_core.benchmarks.sheet import contact_sheet
from harmony_core.pipelines import HarmonyPipeline


def silent(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def pipeline(random_checkpoint: Path) -> HarmonyPipeline:
    loaded = HarmonyPipeline.from_file(random_checkpoint)
    loaded.config = loaded.config.with_(steps=1)
    return loaded


def test_ground_truth_is_near_the_top_and_shuffled_pairs_are_not(pipeline: HarmonyPipeline):
    rows = run_cases(pipeline, ["ground_truth", "shuffled"], 12, 4, silent)
    table = {(line["case"], line["metric"]): line for line in summary(rows)}
    assert table["ground_truth", "iou"]["mean"] > 0.95
    assert table["shuffled", "iou"]["mean"] < 0.6
    assert table["ground_truth", "mouth_r"]["mean"] > 0.95
    assert table["ground_truth", "iou"]["of_the_way"] == pytest.approx(1)
    assert table["shuffled", "mouth_r"]["of_the_way"] == pytest.approx(0)
    for metric in ("colour", "floor", "impact_sound", "shirt", "hair", "word_count", "words", "voice"):
        assert table["ground_truth", metric]["mean"] > 0.8
    assert table["ground_truth", "iou"]["clips"] == 6


def test_every_case_runs_and_survives_csv(pipeline: HarmonyPipeline, tmp_path: Path):
    generated = [name for name in CASES if name not in ("ground_truth", "shuffled")]
    rows = run_cases(pipeline, generated, 4, 4, silent)
    assert {row["case"] for row in rows} == set(generated)
    assert {row["metric"] for row in rows if row["case"] == "reference_voice"} >= {"voice", "word_count"}
    write_rows(tmp_path / "rows.csv", rows)
    table = summary(read_rows([tmp_path / "rows.csv"]))
    assert table == summary(rows)
    text = markdown(table)
    assert all(name in text for name in generated)


def test_without_style_takes_it_out_of_a_copy_only(pipeline: HarmonyPipeline):
    changed = without_style(pipeline)
    assert all(interaction.style is None for interaction in changed.transformer.interactions)
    assert pipeline.transformer.interactions[0].style is not None


def test_wrong_cases_and_counts_are_errors(pipeline: HarmonyPipeline):
    with pytest.raises(ValueError, match=r"'best'.*ground_truth"):
        run_cases(pipeline, ["best"], 8, 4, silent)
    with pytest.raises(ValueError, match="clips is 2"):
        run_cases(pipeline, ["shuffled"], 2, 4, silent)
    with pytest.raises(ValueError, match=r"world is 'hard', but must be one of plain, free_speech, mixed"):
        run_cases(pipeline, ["shuffled"], 8, 4, silent, "hard")


def test_free_speech_is_measured_as_well_and_its_pairs_are_easier_told_apart(pipeline: HarmonyPipeline):
    means = {}
    for world in ("plain", "free_speech"):
        rows = run_cases(pipeline, ["ground_truth", "shuffled"], 48, 4, silent, world)
        means |= {(world, line["case"], line["metric"]): line["mean"] for line in summary(rows)}
    assert means["free_speech", "ground_truth", "mouth_r"] > 0.95
    assert means["free_speech", "ground_truth", "word_count"] > 0.8
    assert means["free_speech", "ground_truth", "words"] > 0.9
    assert means["free_speech", "shuffled", "mouth_r"] < means["plain", "shuffled", "mouth_r"] - 0.1
    assert means["free_speech", "ground_truth", "iou"] == means["plain", "ground_truth", "iou"]


def test_contact_sheet_shows_every_clip():
    frames = np.zeros((25, 64, 64, 3), np.uint8)
    frames[:, 20:40, 20:40] = (250, 10, 10)
    sheet = np.asarray(contact_sheet([("one", frames, np.zeros(32000, np.float32))] * 3, every=8, scale=1))
    red = (sheet[..., 0] > 200) & (sheet[..., 1] < 60)
    assert red.sum() >= 3 * 4 * 300


def test_bootstrap_interval_holds_the_mean_and_shrinks() -> None:
    values = np.random.default_rng(1).normal(3, 1, 400)
    low, high = bootstrap_interval(values, seed=0)
    assert low < values.mean() < high
    assert high - low < 0.25
    wide = bootstrap_interval(values[:20], seed=0)
    assert wide[1] - wide[0] > high - low
    assert bootstrap_interval(values, seed=0) == (low, high)
