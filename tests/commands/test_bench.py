"""`harmony bench`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from harmony_core.benchmarks.quality import read_rows
from harmony_core.benchmarks.timing import append_csv
from tests.commands.errors import assert_error


def test_bench_appends_rows(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    code, printed, err = harmony(
        "bench", "sampling", "-m", random_checkpoint, "--steps", 1, "--repeats", 1, "-o", table
    )
    assert code == 0, err
    assert "video_to_audio" in printed
    rows = list(csv.DictReader(table.open()))
    assert [row["task"] for row in rows] == ["joint", "joint, no SyncCFG", "audio_to_video", "video_to_audio"]
    ratios = list(csv.DictReader((tmp_path / "a_ratios.csv").open()))
    assert [row["name"] for row in ratios] == ["generate_joint", "generate_audio_to_video", "generate_video_to_audio"]
    assert all(
        float(row["ratio"]) == pytest.approx(float(row["ours"]) / float(row["peer"]), abs=1e-3) for row in ratios
    )
    append_csv(table, rows)
    assert list(csv.DictReader(table.open())) == rows * 2
    assert_error(harmony("bench", "sampling", "-m", random_checkpoint, "--repeats", 0), "repeats is 0")


def test_bench_quality_writes_rows_and_their_means(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    table = tmp_path / "quality.csv"
    command = ("bench", "quality", "ground_truth", "shuffled", "-m", random_checkpoint, "--clips", 4, "-o", table)
    code, _, err = harmony(*command)
    assert code == 0, err
    means = {(line["metric"], line["case"]): line for line in read_rows([tmp_path / "quality_summary.csv"])}
    values = [row["value"] for row in read_rows([table]) if (row["metric"], row["case"]) == ("iou", "shuffled")]
    assert float(means["iou", "shuffled"]["mean"]) == pytest.approx(sum(map(float, values)) / len(values), abs=1e-4)
    assert means["iou", "ground_truth"]["of_the_way"] == "1.0"
    assert_error(harmony(*command), f"-o {table} exists")
    table.unlink()
    assert_error(harmony(*command), f"-o's summary {tmp_path / 'quality_summary.csv'} exists")


def test_bench_quality_needs_a_batch(harmony, random_checkpoint: Path) -> None:
    for batch in (0, -1):
        assert_error(harmony("bench", "quality", "-m", random_checkpoint, "--batch", batch), f"--batch is {batch}")


def test_bench_plots_takes_its_own_tables(harmony, tmp_path: Path) -> None:
    ops, model = (Path(__file__).parents[2] / "benchmarks" / f"{name}.csv" for name in ("ops", "model"))
    code, printed, err = harmony("bench", "plots", ops, model, "-o", tmp_path)
    assert code == 0, err
    assert len(printed.splitlines()) == len(list(tmp_path.iterdir())) == 6
    assert_error(harmony("bench", "plots", model, ops, "-o", tmp_path), "model.csv has no column op", "bench ops")
    assert_error(harmony("bench", "plots", ops, ops, "-o", tmp_path), "ops.csv has no column part", "bench model")
    (tmp_path / "empty.csv").touch()
    assert_error(harmony("bench", "plots", tmp_path / "empty.csv", ops), "empty.csv has no column op")
    (tmp_path / "header.csv").write_text(ops.read_text().splitlines()[0])
    assert_error(
        harmony("bench", "plots", tmp_path / "header.csv", model, "-o", tmp_path), "header.csv has too few rows"
    )
