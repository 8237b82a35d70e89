"""What scores a clip of any model: our own sync measure, and scorers that are quoted, each behind one interface."""

from .base import FilmClip, Measure, NotMeasuredError, Scorer, ScorerMissingError
from .choose import ScorerOptions, open_scorers, read_commands

__all__ = [
    "FilmClip",
    "Measure",
    "NotMeasuredError",
    "Scorer",
    "ScorerMissingError",
    "ScorerOptions",
    "open_scorers",
    "read_commands",
]
