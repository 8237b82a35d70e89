"""Reading and writing checkpoint files."""

from .io import Bundle, CheckpointError, describe, embedded_checkpoints, load_bundle, resolve, save_bundle

__all__ = ["Bundle", "CheckpointError", "describe", "embedded_checkpoints", "load_bundle", "resolve", "save_bundle"]
