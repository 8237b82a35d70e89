"""Which scorers run here, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .base import Measure, Scorer, ScorerMissingError
from .command import CommandScorer
from .speech import DnsmosScorer, PocketsphinxScorer, WhisperScorer
from .sync import SyncScorer
from .syncnet import SyncNetScorer

DESYNC = Measure("desync", "s", "lower", "DeSync: Synchformer's offset, by the command given")


@dataclass(frozen=True)
class ScorerOptions:
    """`syncnet` and `whisper` are folders of weights; `commands` are scorers of others by the name of their measure."""

    syncnet: Path | None = None
    whisper: Path | None = None
    commands: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"


def read_commands(given: Sequence[str]) -> dict[str, str]:
    """NAME -> COMMAND. Raises ValueError for a scorer that is not written NAME=COMMAND."""
    commands = {}
    for text in given:
        name, equals, command = text.partition("=")
        if not equals or not name.isidentifier() or not command.strip():
            raise ValueError(f"--scorer is {text!r}, but must be like desync='python score.py'.")
        commands[name] = command
    return commands


def open_scorers(options: ScorerOptions) -> tuple[list[Scorer], dict[str, str]]:
    """The scorers that run here, and title -> reason of those that do not."""
    ways: dict[str, Callable[[], Scorer]] = {
        SyncScorer.title: SyncScorer,
        SyncNetScorer.title: lambda: SyncNetScorer(options.syncnet, options.device),
        "DeSync": lambda: CommandScorer(DESYNC, "DeSync", options.commands.get(DESYNC.name)),
        DnsmosScorer.title: DnsmosScorer,
        PocketsphinxScorer.title: PocketsphinxScorer,
        WhisperScorer.title: lambda: WhisperScorer(options.whisper, options.device),
    }
    for name, command in options.commands.items():
        if name != DESYNC.name:
            measure = Measure(name, "", "", f"what `{command}` prints")
            ways[name] = lambda measure=measure, command=command: CommandScorer(measure, measure.name, command)
    scorers, missing = [], {}
    for title, way in ways.items():
        try:
            scorers.append(way())
        except ScorerMissingError as reason:
            missing[title] = str(reason)
    return scorers, missing
