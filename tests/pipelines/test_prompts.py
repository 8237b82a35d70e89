"""Many clips from JSON lines: strict, resumable, shared by processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmony_core.media import read_video, write_video
from harmony_core.pipelines import prompts
from harmony_core.pipelines.prompts import read_jobs, read_media
from harmony_core.presets import preset

TINY = preset("harmony-tiny")


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{not json", "not JSON"),
        ("[1]", "not an object with a prompt"),
        ({"seed": 1}, "not an object with a prompt"),
        ({"prompt": "a", "colour": "red"}, "unknown field colour; known are output, prompt"),
        ({"prompt": "a", "seconds": "2"}, "seconds is '2', but must be a number"),
        ({"prompt": "a", "seed": 1.5}, "seed is 1.5, but must be a whole number"),
        ({"prompt": "a", "steps": True}, "steps is True, but must be a whole number"),
        ({"prompt": "a", "seconds": float("inf")}, "seconds is inf, but must be a number from 0 to 3600"),
        ({"prompt": "a", "reference_seconds": float("nan")}, "reference_seconds is nan, but must be a number"),
        ({"prompt": "a", "shift": float("inf")}, "shift is inf, but must be a number"),
        ({"prompt": "a", "seed": 2**64}, "seed is 18446744073709551616, but must be"),
        ({"prompt": "a", "output": "same.MP4"}, "output is same.MP4, which line 1 writes"),
        ({"prompt": None}, "prompt is None, but must be a text"),
        ({"prompt": "a", "output": "../a.mp4"}, "output is '../a.mp4', but must be a plain file name"),
        ({"prompt": "a", "output": "a.avi"}, "output is 'a.avi'"),
        ({"prompt": "a", "output": "same.mp4"}, "output is same.mp4, which line 1 writes"),
    ],
)
def test_a_bad_line_is_named_and_costs_no_other(tmp_path: Path, line: object, words: str) -> None:
    path = write(tmp_path / "lines.jsonl", {"prompt": "a", "output": "same.mp4"}, "", line, {"prompt": "b"})
    jobs = read_jobs(path, tmp_path / "out", {}, 0)
    assert [job.line for job in jobs.waiting] == [1, 4]
    with pytest.raises(ValueError, match=f"1 of the lines failed. line 3: .*{words}"):
        jobs.raise_errors()


def test_seeds_and_names_are_the_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "lines.jsonl", {"prompt": "a"}, {"prompt": "b", "seed": 3}, "", {"prompt": "c"})
    jobs = read_jobs(path, tmp_path / "out", {"steps": 7}, 100)
    assert [job.output.name for job in jobs.waiting] == ["00001.mp4", "00002.mp4", "00004.mp4"]
    assert [job.request(TINY).seed for job in jobs.waiting] == [100, 3, 103]
    assert jobs.waiting[0].request(TINY).steps == 7


def test_a_process_has_its_lines_and_touches_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is made for a moment to try whether it can be would count as made before for another process."""
    touched = []
    prepare = prompts.prepare_output
    monkeypatch.setattr(prompts, "prepare_output", lambda path: (touched.append(path.name), prepare(path)))
    path = write(tmp_path / "lines.jsonl", *({"prompt": f"ball {n}"} for n in range(4)), "{", {"prompt": 3})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00002.mp4").touch()
    shares = [read_jobs(path, tmp_path / "out", {}, 0, rank=rank, world_size=2) for rank in (0, 1)]
    assert [[job.line for job in share.waiting] for share in shares] == [[1, 3], [4]]
    assert [share.done for share in shares] == [[], [2]]
    assert [list(share.errors) for share in shares] == [[5], [6]]
    assert touched == ["rank0.part", "rank1.part"]


def test_a_folder_that_cannot_be_written_is_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="Cannot write"):
        read_jobs(write(tmp_path / "lines.jsonl", {"prompt": "a"}), tmp_path / "out", {}, 0)


def test_no_plot_overwrites_what_a_line_reads(tmp_path: Path) -> None:
    """Here line 1's plot is line 2's picture, and line 3 would overwrite its own."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "c.png")
    lines = [{"prompt": "a", "output": "a.mp4"}, {"prompt": "b", "image": "a.png", "output": "b.mp4"}]
    lines.append({"prompt": "c", "reference_images": ["c.png"], "output": "c.mp4"})
    path = write(tmp_path / "lines.jsonl", *lines)
    jobs = read_jobs(path, tmp_path, {}, 0)
    assert [job.line for job in jobs.waiting] == [2]
    assert "a.png, which line 2 reads; rename the output" in jobs.errors[1]
    assert "c.png, which line 3 reads" in jobs.errors[3]
    assert len(read_jobs(path, tmp_path, {}, 0, plots=False).waiting) == 3


def test_media_are_read_no_larger_than_the_clip(tmp_path: Path, synced_mp4: Path) -> None:
    write_video(tmp_path / "large.mp4", np.zeros((4, 160, 320, 3), np.uint8), Fraction(10), None, 0)
    given = {"video": tmp_path / "large.mp4", "reference_audio": synced_mp4, "reference_seconds": 0.48}
    given["reference_images"] = ()
    media = read_media(given, TINY)
    assert media["video"].frames.shape == (4, 64, 128, 3)
    assert media["video"].size == (320, 160)
    assert media["reference_audio"].samples.shape == (1, 7680)
    assert read_media(given | {"width": 96}, TINY)["video"].frames.shape == (4, 96, 192, 3)


def test_no_file_and_no_lines(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.jsonl is missing"):
        read_jobs(tmp_path / "no.jsonl", tmp_path, {}, 0)
    with pytest.raises(ValueError, match="has no lines"):
        read_jobs(write(tmp_path / "empty.jsonl", ""), tmp_path, {}, 0)
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "é"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.jsonl is not UTF-8 at byte 12; save it as UTF-8"):
        read_jobs(tmp_path / "latin.jsonl", tmp_path, {}, 0)
    (tmp_path / "marked.jsonl").write_text('{"prompt": "é"}', encoding="utf-8-sig")  # as Windows' Notepad saves
    assert read_jobs(tmp_path / "marked.jsonl", tmp_path, {}, 0).waiting[0].values["prompt"] == "é"


def test_one_process_resumes(harmony, random_checkpoint: Path, synced_mp4: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    own = {"prompt": "a ball", "audio": os.path.relpath(synced_mp4, tmp_path), "output": "driven.mp4"}
    huge = {"prompt": "b", "seconds": 3600, "width": 8192, "height": 8192}
    gone = {"prompt": "a", "audio": "gone.wav"}
    write(lines, {"prompt": "a red ball"}, gone, huge, {"prompt": "b", "steps": 0}, own)
    out = tmp_path / "out"
    common = ("generate", "--prompts", lines, "-o", out, "-m", random_checkpoint, "--steps", 1, "--seconds", 0.4)
    code, printed, err = harmony(*common)
    assert code == 2
    assert "3 of the lines failed. line 2:" in err
    assert "gone.wav" in err
    assert "line 3: not enough memory" in err
    assert "line 4: steps is 0" in err
    assert sorted(path.name for path in out.iterdir()) == ["00001.mp4", "00001.png", "driven.mp4", "driven.png"]
    assert "line 1:" in printed
    before = (out / "00001.mp4").stat().st_mtime_ns
    (out / "driven.mp4").unlink()
    code, printed, err = harmony(*common)
    assert "line 1: made before" in printed
    assert (out / "00001.mp4").stat().st_mtime_ns == before
    assert len(read_video(out / "driven.mp4").frames) == 5
    code, _, err = harmony(*common, "--audio-prompt", "wood")
    assert code == 2
    assert "leave --audio-prompt out" in err
    code, _, err = harmony(*common, "--json")
    assert code == 2
    assert "leave --json out" in err


def test_two_processes_share_the_lines(random_checkpoint: Path, tmp_path: Path) -> None:
    lines = write(tmp_path / "lines.jsonl", *({"prompt": f"ball {n}"} for n in range(3)), {"prompt": "a", "size": 3})
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["-m", "harmony_core", "generate", "--prompts", lines, "-o", tmp_path / "out", "-m", random_checkpoint]
    command += ["--steps", "1", "--seconds", "0.4", "--no-plot"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "line 4: unknown field size" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00001.mp4", "00002.mp4", "00003.mp4"]
    made = [line for line in done.stdout.splitlines() if ", seed " in line]
    assert len(made) == 3, "each line once"
    assert done.stdout.count("1 of the lines failed") == 0
    failures = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(failures) == 1, "the process of line 4 alone"
