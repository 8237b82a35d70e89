"""A few cases of every kind, and proof that the watch over them sees what it should."""

from __future__ import annotations

import os
import random
import socket
import time
from pathlib import Path

import pytest
import torch

from harmony_core.media import MediaError

from . import watch
from .fuzz import CASES, names, run_case
from .watch import Case, watched

torch.set_num_threads(1)  # a forked child must find no threads of torch's
FEW = 6  # cases of each kind


@pytest.mark.parametrize("kind", CASES)
def test_hostile_input_ends_in_a_result_or_in_a_sentence(kind: str) -> None:
    faults = {}
    statuses = set()
    for number in range(FEW):
        name, outcome = run_case(f"{kind}:test:{number}")
        statuses.add(outcome.status)
        if outcome.status == "fault":
            faults[name] = outcome.text
    assert not faults
    assert "refused" in statuses, "cases that nothing objects to are not hostile"


def test_a_case_is_made_again_from_its_name(tmp_path: Path) -> None:
    assert names(30, 7) == names(30, 7)
    for kind, make in CASES.items():
        for twin in ("one", "other"):
            (tmp_path / kind / twin).mkdir(parents=True)
            make(random.Random(f"{kind}:0:0"), tmp_path / kind / twin)
        one, other = (
            {path.name: path.read_bytes() for path in (tmp_path / kind / twin).rglob("*") if path.is_file()}
            for twin in ("one", "other")
        )
        if kind not in ("index", "weights", "command"):  # these name their folder, or zip archives the time
            assert one == other, kind


# What the watch sees


def outcome_of(run, tmp_path: Path, forbidden: tuple[Path, ...] = ()) -> watch.Outcome:
    return watched(lambda *_: Case(run, forbidden), "seed", tmp_path / "case")


def test_a_refusal_and_a_result_are_no_faults(tmp_path: Path) -> None:
    def refuse() -> None:
        raise MediaError("a.mp4 is missing; give another.")

    assert outcome_of(lambda: None, tmp_path / "a").status == "read"
    refused = outcome_of(refuse, tmp_path / "b")
    assert (refused.status, refused.text) == ("refused", "a.mp4 is missing; give another.")


@pytest.mark.parametrize("kind", ["traceback", "wordless", "endless", "hang", "crash", "memory", "program", "network"])
def test_the_watch_sees_every_kind_of_fault(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SECONDS", 2.0)
    held = []

    def traceback() -> None:
        raise KeyError("config")

    def wordless() -> None:
        raise ValueError

    def endless() -> None:
        raise ValueError("x" * 100_000)

    runs = {
        "traceback": traceback,
        "wordless": wordless,
        "endless": endless,
        "hang": lambda: time.sleep(60),
        "crash": os.abort,
        "memory": lambda: held.append(bytearray(os.urandom(1)) * (watch.HELD + 2**26)),
        "program": lambda: os.system("true"),
        "network": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
    }
    said = {
        "traceback": "KeyError",
        "wordless": "without a word",
        "endless": "100000 characters",
        "hang": "hangs",
        "crash": "crashed",
        "memory": "unbounded memory",
        "program": "os.system",
        "network": "socket.connect",
    }
    outcome = outcome_of(runs[kind], tmp_path)
    assert outcome.status == "fault"
    assert said[kind] in outcome.text


def test_the_watch_sees_files_that_are_not_the_cases(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    neighbour = outside / "neighbour.bin"
    neighbour.write_bytes(b"secret")
    assert "read" in outcome_of(neighbour.read_bytes, tmp_path / "a").text
    assert "wrote" in outcome_of(lambda: (outside / "new").write_bytes(b""), tmp_path / "b").text
    opened = outcome_of(lambda: os.close(os.open(neighbour, os.O_RDONLY)), tmp_path / "c", (neighbour,))
    assert "opened neighbour.bin" in opened.text
