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
from PIL.PngImagePlugin import PngInfo

from harmony_core.media import read_video, write_video
from harmony_core.outputs import SYNC_PLOT
from harmony_core.pipelines import record
from harmony_core.pipelines.prompts import read_jobs, read_request
from harmony_core.pipelines.record import as_comment, read_record
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


def clip_of(path: Path, record: dict | None) -> None:
    """A one-frame clip that says what it was made from."""
    comment = "" if record is None else as_comment(record)
    write_video(path, np.zeros((1, 16, 16, 3), np.uint8), Fraction(10), None, 0, comment=comment)


def test_a_process_has_its_lines_and_touches_no_others(tmp_path: Path) -> None:
    """A file that is made for a moment to try whether it can be would count as made before for another process."""
    path = write(tmp_path / "lines.jsonl", *({"prompt": f"ball {n}"} for n in range(4)), "{", {"prompt": 3})
    (tmp_path / "out").mkdir()
    clip_of(tmp_path / "out" / "00002.mp4", read_jobs(path, tmp_path / "new", {}, 0).waiting[1].record)
    shares = [read_jobs(path, tmp_path / "out", {}, 0, rank=rank, world_size=2) for rank in (0, 1)]
    assert [[job.line for job in share.waiting] for share in shares] == [[1, 3], [4]]
    assert [share.done for share in shares] == [[], [2]]
    assert [list(share.errors) for share in shares] == [[5], [6]]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["00002.mp4"]


def test_a_folder_that_cannot_be_written_is_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="Cannot write"):
        read_jobs(write(tmp_path / "lines.jsonl", {"prompt": "a"}), tmp_path / "out", {}, 0)


def test_no_plot_overwrites_what_a_line_reads(tmp_path: Path) -> None:
    """Here line 1's plot is line 2's picture, and line 3 would overwrite its own."""
    for name in ("a.sync.png", "c.sync.png", "d.sync.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    lines = [{"prompt": "a", "output": "a.mp4"}, {"prompt": "b", "image": "a.sync.png", "output": "b.mp4"}]
    lines.append({"prompt": "c", "reference_images": ["c.sync.png"], "output": "c.mp4"})
    path = write(tmp_path / "lines.jsonl", *lines)
    jobs = read_jobs(path, tmp_path, {}, 0)
    assert [job.line for job in jobs.waiting] == [2]
    assert "a.sync.png, which line 2 reads; rename the output" in jobs.errors[1]
    assert "c.sync.png, which line 3 reads" in jobs.errors[3]
    assert len(read_jobs(path, tmp_path, {}, 0, plots=False).waiting) == 3


def test_no_clip_overwrites_what_a_line_reads(tmp_path: Path, synced_mp4: Path) -> None:
    """Not even where it may overwrite: line 1's clip is line 2's film, and line 3 would overwrite its own."""
    for name in ("a.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(synced_mp4.read_bytes())
    lines = [{"prompt": "a", "output": "a.mp4"}, {"prompt": "b", "video": "a.mp4", "output": "b.mp4"}]
    lines.append({"prompt": "c", "audio": "c.mp4", "output": "c.mp4"})
    jobs = read_jobs(write(tmp_path / "lines.jsonl", *lines), tmp_path, {}, 0, overwrite=True)
    assert [job.line for job in jobs.waiting] == [2]
    assert "overwrite a.mp4, which line 2 reads; give another name" in jobs.errors[1]
    assert "overwrite c.mp4, which line 3 reads" in jobs.errors[3]


def test_a_plot_takes_the_place_of_a_plot_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "lines.jsonl", {"prompt": "a"}, {"prompt": "b"})
    facts = PngInfo()
    facts.add_text("Software", SYNC_PLOT)
    Image.new("RGB", (8, 8)).save(tmp_path / "00001.sync.png", pnginfo=facts)
    Image.new("RGB", (8, 8)).save(tmp_path / "00002.sync.png")
    jobs = read_jobs(path, tmp_path, {}, 0)
    assert [job.line for job in jobs.waiting] == [1]
    assert "00002.sync.png; rename the output, or give --overwrite" in jobs.errors[2]
    assert len(read_jobs(path, tmp_path, {}, 0, overwrite=True).waiting) == 2


def test_media_are_read_no_larger_than_the_clip(tmp_path: Path, synced_mp4: Path) -> None:
    write_video(tmp_path / "large.mp4", np.zeros((4, 160, 320, 3), np.uint8), Fraction(10), None, 0)
    given = {"prompt": "", "video": tmp_path / "large.mp4", "reference_audio": synced_mp4, "reference_seconds": 0.48}
    request = read_request(given, TINY)
    assert request.video.frames.shape == (4, 64, 128, 3)
    assert request.video.size == (320, 160)
    assert request.reference_audio.samples.shape == (1, 7680)
    assert read_request(given | {"width": 96}, TINY).video.frames.shape == (4, 96, 192, 3)


@pytest.mark.parametrize("name", ["harmony-tiny", "harmony-5b"])
def test_a_reference_is_read_as_long_as_the_checkpoint_hears(name: str, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((75, 64, 64, 3), np.uint8), Fraction(25), np.ones((1, 48000)), 16000)
    for asked in ({}, {"reference_seconds": None}):
        request = read_request({"prompt": "", "reference_audio": tmp_path / "a.mp4"} | asked, preset(name))
        assert request.reference_audio.duration_s == Fraction(str(preset(name).reference_seconds))


def test_what_reading_pictures_converts_is_said(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    request = read_request({"prompt": "", "image": tmp_path / "a.png", "reference_images": [tmp_path / "a.png"]}, TINY)
    assert (request.image == 255).all()
    assert request.notes == ("a.png: transparent parts are shown on white",) * 2


def test_lines_as_exporters_write_them(tmp_path: Path) -> None:
    """Byte-order mark, CRLF, comments, U+2028 within a text, null for what is left out, 7.0 for 7, rates as texts."""
    lines = [
        '{"prompt": "pasted\u2028from\u0085a page", "seed": 7.0, "image": null, "fps": "30000/1001"}',
        "# a comment",
        "",
        '{"prompt": "null", "output": null, "seconds": null, "image": "", "transcript": "", "reference_images": null}',
        '{"prompt": "as text", "fps": "12.5", "width": 64.0}',
    ]
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    jobs = read_jobs(path, tmp_path / "out", {"seconds": 1.5}, 100)
    assert jobs.errors == {}
    assert [job.line for job in jobs.waiting] == [1, 4, 5]
    one, two, three = (job.request(TINY) for job in jobs.waiting)
    assert (one.prompt, one.seed, one.fps) == ("pasted\u2028from\u0085a page", 7, Fraction(30000, 1001))
    assert (two.seconds, two.image, two.seed, two.transcript) == (1.5, None, 103, "")
    assert jobs.waiting[1].output.name == "00004.mp4"
    assert (three.fps, three.width) == (Fraction(25, 2), 64)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": ' + "[" * 100_000, "not JSON that can be read: it is nested too deep"),
        ('{"prompt": "a", "seed": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ('{"prompt": "a", "seed": 1, "seed": 2}', "seed stands there twice"),
        ('{"prompt": "a", "fps": "fast"}', "fast is not a number of seconds or fps"),
        ('{"prompt": "a", "seed": 7.5}', "seed is 7.5, but must be a whole number"),
        ('{"prompt": "a", "' + "x" * 10_000 + '": 1}', "unknown field xxx"),
        ('{"prompt": "a", "steps": "' + "x" * 10_000 + '"}', "steps is 'xxx"),
        ('{"prompt": "a", "output": "' + "n" * 300 + '.mp4"}', "output"),
        ('{"prompt": "a", "output": "SAME.mp4"}', "output is SAME.mp4, which line 1 writes"),
    ],
)
def test_a_line_that_cannot_be_is_short_to_tell_and_costs_itself(tmp_path: Path, line: str, words: str) -> None:
    path = write(tmp_path / "lines.jsonl", {"prompt": "a", "output": "same.mp4"}, line, {"prompt": "b"})
    jobs = read_jobs(path, tmp_path / "out", {}, 0)
    assert [job.line for job in jobs.waiting] == [1, 3]
    assert words in jobs.errors[2]
    assert len(jobs.errors[2]) <= 310


def test_of_very_many_wrong_lines_the_first_are_told(tmp_path: Path) -> None:
    jobs = read_jobs(write(tmp_path / "lines.jsonl", *["{"] * 5000), tmp_path / "out", {}, 0)
    with pytest.raises(ValueError, match=r"5000 of the lines failed\. line 1: .* And 4980 more\.") as raised:
        jobs.raise_errors()
    assert len(str(raised.value)) < 10_000


def test_a_changed_line_is_not_taken_for_done(tmp_path: Path, synced_mp4: Path) -> None:
    """Texts, settings, the content of a file and the weights all count; a file's place and empty fields do not."""
    weights = tmp_path / "a.safetensors"
    weights.write_bytes(b"weights")
    out = tmp_path / "out"
    sound = tmp_path / "sound.mp4"
    sound.write_bytes(synced_mp4.read_bytes())

    def read(settings: dict, overwrite: bool = False, **line: object):
        path = write(tmp_path / "lines.jsonl", {"prompt": "a ball", "audio": "sound.mp4", **line})
        return read_jobs(path, out, settings, 0, weights=[weights], written={"scale": 1}, overwrite=overwrite)

    (job,) = read({"steps": 3}).waiting
    clip_of(job.output, job.record)
    assert read_record(job.output) == job.record
    assert read({"steps": 3}, transcript="", image=None).done == [1]
    for settings, line, what in (
        ({"steps": 4}, {}, "steps differ"),
        ({"steps": 3}, {"prompt": "a cube", "seconds": 1}, "prompt, seconds differ"),
        ({}, {}, "steps differ"),
    ):
        jobs = read(settings, **line)
        assert jobs.done == jobs.waiting == []
        assert jobs.errors[1] == (
            f"00001.mp4 exists and was made from another request ({what}); give --overwrite to make it anew, or "
            "another output."
        )
        (again,) = read(settings, overwrite=True, **line).waiting
        assert again.replaces
    assert read({"steps": 3}, overwrite=True).done == [1], "what is the same is not made anew"
    weights.write_bytes(b"other weights")
    record._weights.cache_clear()
    assert "weights differ" in read({"steps": 3}).errors[1]
    weights.write_bytes(b"weights")
    record._weights.cache_clear()
    write_video(sound, np.zeros((3, 16, 16, 3), np.uint8), Fraction(10), np.zeros((1, 4800), np.float32), 16000)
    record._digest.cache_clear()
    assert "audio differ" in read({"steps": 3}).errors[1]
    clip_of(job.output, None)
    assert "does not say what it was made from" in read({"steps": 3}).errors[1]
    job.output.write_bytes(b"no clip at all")
    assert "does not say what it was made from" in read({"steps": 3}).errors[1]


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
    assert sorted(path.name for path in out.iterdir()) == [
        "00001.mp4",
        "00001.sync.png",
        "driven.mp4",
        "driven.sync.png",
    ]
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
