"""The command line on hostile files: one printable line, exit code 0 or 2, nothing written but what was asked for."""

from __future__ import annotations

import contextlib
import io
import random
import sys
from pathlib import Path

from harmony_core.cli import main

from .media_cases import film, picture
from .watch import Case
from .weight_cases import bundle, weights

LONGEST = 11_000  # characters of what one command says of an error


def command(rng: random.Random, folder: Path) -> Case:
    """A command over the file that another kind of case makes."""
    made = rng.choice([film, picture, bundle, weights])
    case = made(rng, folder)
    (path,) = [each for each in folder.iterdir() if each not in case.forbidden]
    out = folder / "out"
    line = rng.choice(
        [
            ["info", path],
            ["info", path, "--json"],
            ["convert", path, "-o", out / "w.safetensors"],
            ["encode", path, "-o", out / "l.safetensors", "--seconds", "1"],
            ["sync", path],
            ["generate", "a red ball", "--image", path, "-o", out / "c.mp4", "--steps", "1", "--seconds", "nan"],
            ["generate", "a red ball", "--model", path, "-o", out / "c.mp4", "--steps", "1"],
            ["generate", "a red ball", "--reference-audio", path, "-o", out / "c.mp4", "--shift", "nan"],
            ["generate", "a red ball", "--video-vae", path, "--audio-vae", path, "-o", out / "c.mp4"],
        ]
    )
    return Case(lambda: run_command([str(each) for each in line]), case.forbidden)


def run_command(arguments: list[str]) -> None:
    """Raises what the command printed as an error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    sys.argv, code = ["harmony", *arguments], 0
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    said = stderr.getvalue()
    shown = (stdout.getvalue() + said).replace("\n", "").replace("\r", "")  # a progress bar goes back
    assert code in (0, 1, 2), (code, said)
    assert "Traceback" not in said, said[-500:]
    assert len(said) < LONGEST, len(said)
    assert all(letter.isprintable() for letter in shown), [letter for letter in shown if not letter.isprintable()][:5]
    if code:
        raise ValueError(said or stdout.getvalue())


CASES = {"command": command}
