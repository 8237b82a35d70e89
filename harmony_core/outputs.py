"""Where results go: proven writable, whole or not there at all, and no file of anybody's lost."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

SYNC_PLOT = "sync plot of harmony_core"  # in the picture's metadata
PART = ".harmony-*.part"  # what is being written, under a name that no other process has
_unfinished: dict[Path, int] = {}  # what is being written, and the process that writes it


class OutputError(ValueError):
    """A result that cannot go where it should; the message names the path and the fix."""


def prepare_output(path: str | Path) -> Path:
    """The path, its folder made and proven writable, so that nothing is computed for a file that cannot be saved.

    Raises:
        OutputError: the folder cannot be made or written, or the path is a folder, a pipe or a device.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            what = "it is a folder" if path.is_dir() else "it is no ordinary file"
            raise OutputError(f"Cannot write {path} ({what}); choose another output with -o.")
        part, keeper = _new_part(path.parent)
        keeper.close()
        _remove(part)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path


def check_overwrites(
    outputs: Mapping[str, Path | None], inputs: Iterable[Path | None], overwrite: bool = False
) -> None:
    """Outputs, by option, are files of their own; None is one that is not asked for.

    Raises:
        OutputError: an output is also an input or another output, or it exists and `overwrite` was not asked for.
    """
    taken = {path.resolve(): "an input" for path in inputs if path is not None}
    for name, path in outputs.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise OutputError(f"{name} would overwrite {taken[path.resolve()]} ({path}); choose another name.")
        if path.is_file() and not overwrite:
            raise OutputError(f"{name} {path} exists; choose another name, or give --overwrite to replace it.")
        taken[path.resolve()] = name


def numbered(path: Path) -> Iterator[Path]:
    """The path, then NAME-2, NAME-3 and so on: where a result without a name of its own may go."""
    yield path
    for number in count(2):
        yield path.with_stem(f"{path.stem}-{number}")


def plot_beside(output: Path) -> Path:
    """Where a clip's sync plot goes."""
    return output.with_suffix(".sync.png")


def is_sync_plot(path: Path) -> bool:
    """Whether a picture is a plot that was drawn here before, and may be drawn anew."""
    with path.open("rb") as file:
        return SYNC_PLOT.encode() in file.read(4096)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A private path to write to. When the block ends well it takes the place of `path` in one step, else it goes.

    Of several processes with one output the last that is done wins. What a killed one left in the folder is removed.

    Raises:
        OutputError: a folder or a path that cannot be written, or an OSError of the block: a disk that is full.
    """
    with _private(path) as (part, place):
        yield part
        place(path)


def write_numbered(path: Path, is_free: Callable[[Path], bool], write: Callable[[Path], None]) -> Path:
    """Write under the first of `numbered` that exists nowhere and `is_free`, and say which.

    The name is taken when the file is whole, so that of two processes neither loses its own. Raises as `whole_file`.
    """
    with _private(path) as (part, place):
        write(part)
        free = next(candidate for candidate in numbered(path) if is_free(candidate) and _claim(candidate))
        try:
            place(free)
        except BaseException:
            if not free.stat().st_size:  # its name was taken and nothing was put there
                free.unlink()
            raise
    return free


@atexit.register
def remove_unfinished() -> None:
    """Remove what this process did not finish: a signal may stop it between any two lines, a cleanup's too."""
    for part, process in list(_unfinished.items()):
        if process == os.getpid():
            with suppress(OSError):
                _remove(part)


@contextmanager
def _private(path: Path) -> Iterator[tuple[Path, Callable[[Path], None]]]:
    """A path that no other process has, and what puts it in another's place."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        part, keeper = _new_part(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error

    def place(target: Path) -> None:
        try:
            os.fsync(keeper.fileno())
            if sys.platform == "win32":
                keeper.close()  # no open file is renamed there; elsewhere it is held until it has its name
            part.replace(target)
        except OSError as error:
            raise _cannot_write(target, error) from error

    try:
        yield part, place
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        keeper.close()
        _remove(part)


def _new_part(folder: Path) -> tuple[Path, BinaryIO]:
    """A new private file, held for as long as it is open. Raises OSError."""
    while True:
        part = folder / PART.replace("*", f"{os.getpid()}-{os.urandom(4).hex()}")
        _unfinished[part] = os.getpid()
        keeper = part.open("xb")
        with suppress(OSError):  # a file system without locks, on which nothing is swept either
            _hold(keeper, wait=True)
        if part.exists():  # no other process took it for a dead one's in between
            return part, keeper
        keeper.close()
        _remove(part)


def _remove(part: Path) -> None:
    """Remove a private file, if it is there still. Raises OSError."""
    part.unlink(missing_ok=True)
    _unfinished.pop(part, None)


def _sweep(folder: Path) -> None:
    """Remove what processes that are gone were writing: nobody holds it."""
    for part in folder.glob(PART):
        with suppress(OSError), part.open("r+b") as file:
            _hold(file, wait=False)
            part.unlink()


def _hold(file: BinaryIO, wait: bool) -> None:
    """Lock a file until it is closed or its process ends. Raises OSError where another holds it and `wait` is False."""
    if sys.platform != "win32":  # an open file cannot be removed there, so its being open holds it
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _claim(path: Path) -> bool:
    """Make the file, unless it exists."""
    try:
        path.open("xb").close()
    except FileExistsError:
        return False
    return True


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"Cannot write {path} ({error.strerror or error}); choose another output with -o.")
