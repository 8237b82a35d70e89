"""Entry point of the `harmony` command: one line for an error, never a traceback."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Bad input ends with exit code 2 and one line on stderr."""
    try:
        from .commands import app
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed; pip install 'harmony-av[standalone]' brings it.")
    try:
        app(prog_name="harmony")
    except (ValueError, OSError) as error:
        _stop(str(error))
    except (MemoryError, RuntimeError) as error:  # torch reports a lack of memory as a RuntimeError
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        _stop("not enough memory; ask for fewer --seconds or a smaller --width and --height.")


def _stop(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
