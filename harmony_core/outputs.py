"""Where results go: proven writable, and no file of anybody's lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path


class OutputError(ValueError):
    """A result that cannot go where it should; the message names the path and the fix."""


def prepare_output(path: str | Path) -> Path:
    """The path, its folder made and proven writable, so that nothing is computed for a file that cannot be saved.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"Cannot write {path} ({reason}); choose another output with -o.") from error
    return path


def check_overwrites(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None]) -> None:
    """Outputs, by option, are files of their own; None is one that is not asked for.

    Raises:
        OutputError: an output is also an input or another output.
    """
    taken = {path.resolve(): "an input" for path in inputs if path is not None}
    for name, path in outputs.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise OutputError(f"{name} would overwrite {taken[path.resolve()]} ({path}); choose another name.")
        taken[path.resolve()] = name
