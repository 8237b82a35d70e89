"""`python -m harmony_core` is the `harmony` command."""

from __future__ import annotations

from .cli import main

main()
