"""Harmony (arXiv 2511.21579): video and sound, generated together and in sync."""

__version__ = "0.1.0"
