"""The error of every checkpoint reader."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A file that is not a checkpoint we can load; the message names it and what it lacks."""
