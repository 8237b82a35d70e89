"""Entry point of the `harmony` command: one line for an error, never a traceback."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Bad input ends with exit code 2 and one line on stderr."""
    try:
        from .commands import app
        from .commands.options import lack_of_memory_named, say
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed; pip install 'harmony-av[standalone]' brings it.")
    try:
        with lack_of_memory_named():
            app(prog_name="harmony")
    except (ValueError, OSError) as error:
        say(f"error: {error}", error=True)
        sys.exit(2)
