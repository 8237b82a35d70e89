"""Entry point of the `harmony` command: one line for an error, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from .outputs import remove_unfinished

# Packages that some commands need, and the extra that brings each; all others are in `standalone`.
EXTRAS = {"accelerate": "train", "yaml": "train", "pypinyin": "chinese", "jieba": "chinese"}
EXTRAS |= {"diffusers": "weights", "transformers": "weights", "sentencepiece": "weights"}


def main() -> None:
    """Run the command line. Bad input ends with exit code 2 and a line on stderr, a signal with 128 and its number."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        from .commands import app
        from .commands.options import lack_of_memory_named, say

        with lack_of_memory_named():
            app(prog_name="harmony")
    except ModuleNotFoundError as error:
        package = (error.name or "a package").partition(".")[0]
        if package == "harmony_core":
            raise
        extra = EXTRAS.get(package, "standalone")
        sys.exit(f"error: {package} is not installed; pip install 'harmony-av[{extra}]' brings it.")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (ValueError, OSError) as error:
        say(f"error: {error}", error=True)
        sys.exit(2)


def _stop(number: int, frame: FrameType | None) -> None:
    """End with 128 and the signal's number, and what is half written goes.

    At once within an import: torch imports numpy from C, takes any exception for numpy's absence and goes on.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            remove_unfinished()
            os._exit(128 + number)
        frame = frame.f_back
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
