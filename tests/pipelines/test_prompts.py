"""Many clips from JSON lines: strict, resumable, shared by processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harmony_core.media import read_video
from harmony_core.pipelines.prompts import read_jobs


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
    assert [job.request().seed for job in jobs.waiting] == [100, 3, 103]
    assert jobs.waiting[0].request().steps == 7
    shares = [jobs.share(rank, 2) for rank in (0, 1)]
    assert [[job.line for job in share.waiting] for share in shares] == [[1], [2, 4]]


def test_no_file_and_no_lines(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.jsonl is missing"):
        read_jobs(tmp_path / "no.jsonl", tmp_path, {}, 0)
    with pytest.raises(ValueError, match="has no lines"):
        read_jobs(write(tmp_path / "empty.jsonl", ""), tmp_path, {}, 0)


def test_one_process_resumes(harmony, random_checkpoint: Path, synced_mp4: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    own = {"prompt": "a ball", "audio": os.path.relpath(synced_mp4, tmp_path), "output": "driven.mp4"}
    write(lines, {"prompt": "a red ball"}, own, {"prompt": "a", "audio": "gone.wav"}, {"prompt": "b", "steps": 0})
    out = tmp_path / "out"
    common = ("generate", "--prompts", lines, "-o", out, "-m", random_checkpoint, "--steps", 1, "--seconds", 0.4)
    code, printed, err = harmony(*common)
    assert code == 2
    assert "2 of the lines failed. line 3:" in err
    assert "gone.wav" in err
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
