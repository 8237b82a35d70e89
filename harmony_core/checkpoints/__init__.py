"""Reading and writing checkpoint files."""

from .bundle import Bundle, describe, embedded_checkpoints, load_bundle, resolve, save_bundle
from .errors import CheckpointError
from .files import load_transformer

__all__ = [
    "Bundle",
    "CheckpointError",
    "describe",
    "embedded_checkpoints",
    "load_bundle",
    "load_transformer",
    "resolve",
    "save_bundle",
]
