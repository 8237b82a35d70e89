"""What fails around a run: disks, folders, signals. What was finished stays, what was not never looks finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harmony_core.media import read_video
from harmony_core.outputs import OutputError, prepare_output, whole_file

ROOT = Path(__file__).parents[2]
QUICK = ["--steps", "1", "--seconds", "0.4", *(f"--{stream}-text-scale=1" for stream in ("video", "audio"))]
QUICK += [f"--{stream}-sync-scale=1" for stream in ("video", "audio")]
FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from harmony_core.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
main()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harmony_core", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("room", [3000, 5000])
def test_a_full_disk_costs_the_new_file_alone(random_checkpoint: Path, tmp_path: Path, room: int) -> None:
    """A limit on the size of files fails writes in the middle, as a full disk does, at the start, then later."""
    (tmp_path / "a.mp4").write_bytes(b"precious")
    command = [sys.executable, "-c", FULL, str(room), "generate", "a ball", "-m", str(random_checkpoint), *QUICK]
    command += ["-o", str(tmp_path / "a.mp4"), "--overwrite"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "a.mp4" in done.stderr
    assert names(tmp_path) == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"precious"


def test_a_folder_that_may_not_be_written_is_said_before(tmp_path: Path) -> None:
    """Root may write anywhere, so somebody else tries."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for each in (tmp_path, *tmp_path.parents):
        if not os.access(each, os.X_OK) or not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o001)
    folder.chmod(0o555)
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            prepare_output(folder / "a.mp4")
        except OutputError as error:
            os._exit(0 if "Permission denied" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert names(folder) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_nothing_half_written(
    random_checkpoint: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    lines = [json.dumps({"prompt": f"a ball {index}"}) for index in range(40)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out"
    process = start("generate", "--prompts", tmp_path / "p.jsonl", "-m", random_checkpoint, *QUICK, "-o", out)
    wait_for(out / "00002.mp4", process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert not list(out.glob(".*"))
    clips = sorted(out.glob("*.mp4"))
    assert 2 <= len(clips) < 40
    assert all(len(read_video(clip).frames) == 5 for clip in clips)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after_s", [0.3, 1.2])
def test_a_run_may_be_stopped_while_it_imports(tmp_path: Path, number: signal.Signals, after_s: float) -> None:
    """Torch imports numpy from C and goes on without it when that fails, whatever the reason."""
    process = start("generate", "a ball", "--steps", "400", "-o", tmp_path / "out" / "a.mp4")
    time.sleep(after_s)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.*"))


def test_a_killed_run_goes_on_from_what_is_whole(random_checkpoint: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"a ball {index}"}) for index in range(6)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out"
    arguments = ("generate", "--prompts", tmp_path / "p.jsonl", "-m", random_checkpoint, *QUICK, "-o", out)
    process = start(*arguments)
    wait_for(out / "00001.mp4", process)
    process.kill()
    process.wait()
    before = {path.name: path.read_bytes() for path in out.glob("*.mp4")}
    again = start(*arguments)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert [clip.name for clip in sorted(out.glob("*.mp4"))] == [f"{index + 1:05}.mp4" for index in range(6)]
    assert all((out / name).read_bytes() == content for name, content in before.items())
    assert not list(out.glob(".*"))


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path.name} does not appear"
        time.sleep(0.02)


def test_a_killed_writer_leaves_no_file_of_its_name(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with whole_file(tmp_path / "a.mp4") as part:
            part.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert not (tmp_path / "a.mp4").exists()
    with whole_file(tmp_path / "a.mp4") as part:
        part.write_bytes(b"whole")
    assert names(tmp_path) == ["a.mp4"]
