"""A scorer of somebody else's: a command that is given a file and prints a number."""

from __future__ import annotations

import math
import shlex
import shutil
import subprocess

from .base import FilmClip, Measure, NotMeasuredError, ScorerMissingError


class CommandScorer:
    """The last word that `command FILE` prints.

    Raises:
        ScorerMissingError: no command, or no such program.
    """

    def __init__(self, measure: Measure, title: str, command: str | None) -> None:
        self.title, self.measures = title, (measure,)
        if command is None:
            raise ScorerMissingError(
                f"give --scorer '{measure.name}=COMMAND', which is given a file and prints a number"
            )
        self.command = shlex.split(command)
        if not self.command or shutil.which(self.command[0]) is None:
            raise ScorerMissingError(f"{command!r} is no program that is here")

    def __call__(self, clip: FilmClip) -> dict[str, float]:
        done = subprocess.run([*self.command, str(clip.path.resolve())], capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            raise NotMeasuredError(f"{self.command[0]} ended with {done.returncode}: {last[:200]}")
        words = done.stdout.split()
        try:
            value = float(words[-1])
        except (IndexError, ValueError) as error:
            raise NotMeasuredError(f"{self.command[0]} printed no number at its end") from error
        if not math.isfinite(value):
            raise NotMeasuredError(f"{self.command[0]} printed {value}")
        return {self.measures[0].name: value}
