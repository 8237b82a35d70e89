"""Entry point of the `harmony` command: one line for an error, never a traceback."""

from __future__ import annotations

import signal
import sys

# Packages that some commands need, and the extra that brings each; all others are in `standalone`.
EXTRAS = {"accelerate": "train", "yaml": "train", "pypinyin": "chinese", "jieba": "chinese"}
EXTRAS |= {"diffusers": "weights", "transformers": "weights", "sentencepiece": "weights"}


def main() -> None:
    """Run the command line. Bad input ends with exit code 2 and a line on stderr, a signal with 128 and its number."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that what is half written goes
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
    except (ValueError, OSError) as error:
        say(f"error: {error}", error=True)
        sys.exit(2)
