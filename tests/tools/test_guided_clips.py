"""Clips of a comparison, scored: what was scored is kept, and is scored again for a new clip or another scorer."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from harmony_core.benchmarks.guidance import summary
from harmony_core.benchmarks.quality import held_out, read_rows
from harmony_core.benchmarks.scorers import Measure
from harmony_core.benchmarks.scorers.command import CommandScorer
from harmony_core.benchmarks.scorers.sync import SyncScorer
from harmony_core.benchmarks.timing import append_csv
from harmony_core.media import write_video
from harmony_core.toyworld import FPS, SAMPLE_RATE
from tools.comfyui.guided_clips import keep_settings, place_of, score_clips
from tools.compare_guidance import table

WAYS = {"none": 6, "sync 1.5": 2}
MISSING = {"DNSMOS": "not there"}


def made(folder: Path, number: int) -> None:
    """One clip of each way."""
    clip = held_out(number + 1, reference_seconds=0.48)[number].clip
    keep_settings(folder, {}, [{"output": f"{number}.mp4", "prompt": clip.scene.video_caption, "seed": number}])
    for way, steps in WAYS.items():
        place = place_of(folder, way, 6)
        place.mkdir(parents=True, exist_ok=True)
        write_video(place / f"{number}.mp4", clip.video, Fraction(FPS), clip.audio[None], SAMPLE_RATE)
        row: dict[str, Any] = {"way": way, "budget": 6, "steps": steps, "passes": 6, "seed": number}
        append_csv(folder / "made.csv", [row | {"file": f"{number}.mp4", "server_s": "" if number else 1.5}])


def test_what_was_scored_is_kept(tmp_path: Path) -> None:
    seen: list[Path] = []
    sync = SyncScorer()
    made(tmp_path, 0)
    score_clips(tmp_path, [sync], MISSING, seen.append)
    assert len(seen) == 2
    score_clips(tmp_path, [sync], MISSING, seen.append)
    assert len(seen) == 2
    made(tmp_path, 1)
    score_clips(tmp_path, [sync], MISSING, seen.append)
    assert len(seen) == 6
    five = CommandScorer(Measure("five", "", "", ""), "five", f"{sys.executable} -c print(5)")
    lines = summary(read_rows([score_clips(tmp_path, [sync, five], MISSING, seen.append)]))
    assert len(seen) == 10
    score_clips(tmp_path, [sync], MISSING, seen.append)
    assert len(seen) == 10, "scores of more scorers than now were lost"
    found = {(line["way"], line["metric"]): line for line in lines}
    assert (found["sync 1.5", "five"]["mean"], found["sync 1.5", "five"]["scenes"]) == (5.0, 2)
    assert found["sync 1.5", "av_align"]["more"] == 0.0  # the same clips under both ways
    assert found["sync 1.5", "server_s"]["scenes"] == 1  # of the other the server had the sampling in its cache
    rows = read_rows([place_of(tmp_path, "none", 6).with_name("none.csv")])
    assert all(row["prompt"] and row["missing"] == "DNSMOS: not there" for row in rows)
    assert "| sync 1.5 | 2 | 6 |" in table(lines)
    assert "1.500 (+0.000 to +0.000), n = 1 |" in table(lines)


def test_a_folder_without_clips(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no clip; make some first"):
        score_clips(tmp_path, [SyncScorer()], MISSING)
