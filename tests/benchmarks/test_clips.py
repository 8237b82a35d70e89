"""`harmony bench clips`: a folder to a table and a page; absences are empty cells with a reason."""

from __future__ import annotations

import csv
import json
import re
import sys
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from harmony_core.benchmarks import clip_page
from harmony_core.media import write_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A film that flashes and clicks, one without sound, one that is none, and something else."""
    made = tmp_path / "clips & more"
    made.mkdir()
    frames = np.zeros((50, 64, 64, 3), np.uint8)
    samples = np.random.default_rng(0).normal(0, 1e-3, (1, 32000)).astype(np.float32)
    for frame in (8, 21, 30, 44):
        frames[frame : frame + 2] = 255
        samples[0, frame * 640 : frame * 640 + 400] += 0.5 * np.sin(np.arange(400)).astype(np.float32)
    write_video(made / "flash.mp4", frames, Fraction(25), samples, 16000)
    write_video(made / "silent.mp4", frames, Fraction(25), None, 16000)
    (made / "broken.mp4").write_bytes(b"nothing")
    (made / "notes.md").write_text("no film")
    (made / "flash.txt").write_text("a <lamp> flashes\ntranscript: no home\n")
    return made


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_a_folder_becomes_a_table_and_a_page(harmony, folder: Path) -> None:
    command = f"{sys.executable} -c 'print(7)'"
    code, out, err = harmony("bench", "clips", folder, "--scorer", f"beauty={command}")
    assert code == 0, err
    assert "DeSync does not run" in out
    rows = table(folder.with_name("clips & more.csv"))
    assert list(rows) == ["broken.mp4", "flash.mp4", "silent.mp4"]
    assert float(rows["flash.mp4"]["av_align"]) >= 0.5
    assert rows["flash.mp4"]["prompt"] == "a <lamp> flashes"
    assert rows["flash.mp4"]["transcript"] == "no home"
    assert rows["silent.mp4"]["av_align"] == ""
    assert "Harmony sync: the clip has no sound" in rows["silent.mp4"]["notes"]
    assert rows["broken.mp4"]["beauty"] == ""
    assert "broken.mp4" in rows["broken.mp4"]["notes"]
    assert all("DeSync: give --scorer" in row["missing"] for row in rows.values())
    page = folder.with_name("clips & more.html").read_text(encoding="utf-8")
    HTMLParser().feed(page)
    assert "a &lt;lamp&gt; flashes" in page
    assert page.count('src="data:video/mp4;base64,') == 3
    assert "within it" in out
    assert "<b>DeSync</b> did not run" in page
    assert not re.search(r"(src|href)=\"(https?:|//)", page)


def test_clips_too_large_for_the_page_are_linked(harmony, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_page, "EMBEDDED_MB", 0)
    code, out, err = harmony("bench", "clips", folder, "-o", folder.parent / "out" / "table.csv")
    assert code == 0, err
    page = (folder.parent / "out" / "table.html").read_text(encoding="utf-8")
    assert 'src="../clips%20%26%20more/flash.mp4"' in page
    assert "read from beside this page" in page
    assert "where they are" in out


def test_texts_of_a_prompts_file(harmony, folder: Path) -> None:
    prompts = folder / "prompts.jsonl"
    lines = [{"prompt": "a lamp", "transcript": "yes", "output": "flash.mp4"}, {"prompt": "other"}]
    prompts.write_text("\n".join(map(json.dumps, lines)))
    code, _, err = harmony("bench", "clips", folder, "--prompts", prompts)
    assert code == 0, err
    assert table(folder.with_name("clips & more.csv"))["flash.mp4"]["transcript"] == "yes"


def test_wrong_input_is_said(harmony, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        ((tmp_path / "empty",), "has no film"),
        ((folder, "--scorer", "beauty"), "desync='python score.py'"),
        ((folder, "-o", tmp_path / "table.txt"), ".csv"),
    ):
        code, _, err = harmony("bench", "clips", *arguments)
        assert code != 0
        assert said in err
