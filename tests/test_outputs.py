"""Files appear whole or not at all, and none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from harmony_core.outputs import (
    OutputError,
    check_overwrites,
    numbered,
    prepare_output,
    remove_unfinished,
    whole_file,
    write_numbered,
)

ROOT = Path(__file__).parents[1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_made_and_tried_without_a_trace(tmp_path: Path) -> None:
    assert prepare_output(tmp_path / "new" / "a.mp4") == tmp_path / "new" / "a.mp4"
    assert names(tmp_path / "new") == []


def test_what_cannot_be_written_is_said_before(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "file" / "a.mp4", "Not a directory|File exists"),
        (tmp_path, "it is a folder"),
        (tmp_path / "pipe", "it is no ordinary file"),
        (tmp_path / ("n" * 300), "File name too long"),
    ):
        with pytest.raises(OutputError, match=rf"Cannot write .*\({reason}\); choose another output with -o"):
            prepare_output(path)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == tmp_path, "a rename within a folder is one step"
    assert path.read_text() == "new"
    with pytest.raises(OutputError, match=r"a\.txt \(Is a directory\)"), whole_file(path) as part:
        tmp_path.write_text("half")
    assert path.read_text() == "new"
    (tmp_path / "b.txt" / "full").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"Cannot write .*b\.txt \(Is a directory\)"), whole_file(tmp_path / "b.txt"):
        pass
    assert names(tmp_path) == ["a.txt", "b.txt"]


def test_the_last_whole_one_of_several_writers_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as first:
        with whole_file(path) as second:
            assert first != second
            first.write_text("first")
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert names(tmp_path) == ["a.txt"]


WRITER = """
import sys, time
from pathlib import Path
from harmony_core.outputs import whole_file
with whole_file(Path(sys.argv[1])) as part:
    part.write_text(sys.argv[2])
    print("open", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def writer(path: Path, text: str, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(path), text, str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"
    return process


def test_two_processes_with_one_output_both_succeed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    slow, quick = writer(path, "slow" * 1000, 1.0), writer(path, "quick", 0.0)
    assert quick.wait() == 0
    assert path.read_text() == "quick"
    assert slow.wait() == 0
    assert path.read_text() == "slow" * 1000
    assert names(tmp_path) == ["a.txt"]


def test_what_a_killed_process_left_is_swept_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    killed, living = writer(tmp_path / "a.txt", "half", 60), writer(tmp_path / "b.txt", "whole", 1.0)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert len(names(tmp_path)) == 2
    with whole_file(tmp_path / "c.txt") as part:
        part.write_text("c")
    assert len(names(tmp_path)) == 2
    assert living.wait() == 0
    assert names(tmp_path) == ["b.txt", "c.txt"]
    assert (tmp_path / "b.txt").read_text() == "whole"


def stopped_at(line: int, work: Callable[[], object]) -> bool:
    """Do the work, broken off as by Ctrl-C before the line of this number that runs; False if it ends before."""
    left = line

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_a_run_that_is_stopped_at_any_line_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "out" / "a.txt"

    def write() -> None:
        prepare_output(path)
        with whole_file(path) as part, part.open("w") as file:
            file.write("whole")

    line = 1
    while stopped_at(line, write):
        remove_unfinished()  # as the end of a process does
        assert [text.read_text() for text in path.parent.glob("*")] in ([], ["whole"]), line
        path.unlink(missing_ok=True)
        line += 1
    assert line > 100  # of the standard library's too
    assert names(path.parent) == ["a.txt"]


STOPPED = """
import signal, sys
from pathlib import Path
from harmony_core.cli import _stop
from harmony_core.outputs import whole_file
signal.signal(signal.SIGTERM, _stop)
with whole_file(Path(sys.argv[1])) as part:
    part.write_text("half")
    import stops_itself
"""


def test_a_run_that_is_stopped_in_an_import_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "stops_itself.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    command = [sys.executable, "-c", STOPPED, str(tmp_path / "out" / "a.txt")]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    assert subprocess.run(command, env=environment).returncode == 128 + signal.SIGTERM
    assert names(tmp_path / "out") == []


def test_a_name_that_cannot_be_filled_is_given_back(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.mp4"):
        write_numbered(tmp_path / "a.mp4", lambda _: True, Path.unlink)  # what was written is lost
    assert names(tmp_path) == []


def test_names_are_numbered_and_never_taken_twice(tmp_path: Path) -> None:
    stem = tmp_path / "a.mp4"
    found = numbered(stem)
    assert [next(found).name for _ in range(3)] == ["a.mp4", "a-2.mp4", "a-3.mp4"]
    (tmp_path / "a-2.mp4").write_text("precious")

    def free(path: Path) -> bool:
        return path.name != "a-3.mp4"

    def write_meanwhile(part: Path) -> None:
        part.write_text("mine")
        stem.write_text("another's")

    assert write_numbered(stem, free, write_meanwhile).name == "a-4.mp4"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.mp4": "another's",
        "a-2.mp4": "precious",
        "a-4.mp4": "mine",
    }


def test_nothing_that_exists_is_overwritten_unasked(tmp_path: Path) -> None:
    old, new = tmp_path / "old.mp4", tmp_path / "new.mp4"
    old.touch()
    with pytest.raises(OutputError, match=r"-o .*old\.mp4 exists; choose another name, or give --overwrite"):
        check_overwrites({"-o": old}, [])
    check_overwrites({"-o": old}, [], overwrite=True)
    check_overwrites({"-o": new, "--plot": None}, [old, None])
    with pytest.raises(OutputError, match="-o would overwrite an input"):
        check_overwrites({"-o": old}, [old], overwrite=True)
    with pytest.raises(OutputError, match="--plot would overwrite -o"):
        check_overwrites({"-o": new, "--plot": new}, [])
