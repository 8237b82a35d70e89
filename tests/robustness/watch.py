"""One hostile case in a process of its own, watched: what it opened, ran, held and said.

A case may end well or be refused: with an error that the command line would print as a sentence. Everything else is a
fault: a crash, a hang, unbounded memory, another exception, a program or a connection started, a file read that was
not asked for, a file written outside of its folder.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import random
import resource
import selectors
import signal
import site
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60.0
MEMORY = 3 * 2**30  # bytes of address space beyond what the process begins with
HELD = 700 * 2**20  # bytes that a case may really hold; the largest legitimate one holds a third of it
LONGEST_ERROR = 4_000  # characters
REFUSALS = (ValueError, OSError)  # what `harmony` prints as one line
PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen", "pty.spawn")
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
ROOT = Path(__file__).parents[2]
SCRATCH = f"{tempfile.gettempdir()}{os.sep}tmp"  # what Python's tempfile makes, under a name that nobody knows before
READABLE = tuple(
    str(Path(each).resolve())
    for each in (ROOT, sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc", "/proc", "/sys", "/dev")
) + tuple(site.getsitepackages())
IN_ACCESS, IN_MODIFY, IN_OPEN = 0x1, 0x2, 0x20


@dataclass(frozen=True)
class Case:
    """What is run on what was made for it. `forbidden` are files that must not be opened."""

    run: Callable[[], Any]
    forbidden: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """`status` is `read`, `refused` or `fault`; `text` the error or what went wrong."""

    status: str
    text: str
    seconds: float = 0.0
    held: int = 0


def watched(make: Callable[[random.Random, Path], Case], seed: str, folder: Path) -> Outcome:
    """Make a case from a seed in an empty folder and run it, in a forked process."""
    folder.mkdir(parents=True)
    started = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(make, seed, folder, writer)
    os.close(writer)
    said = _read_until(reader, started + SECONDS)
    seconds = time.monotonic() - started
    if said is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return Outcome("fault", f"hangs: no end after {SECONDS:g} s", seconds)
    _, code = os.waitpid(child, 0)
    status, _, text = said.decode(errors="replace").partition("\n")
    held, _, text = text.partition("\n")
    if status not in ("read", "refused", "fault"):
        return Outcome("fault", f"crashed: {os.waitstatus_to_exitcode(code)} {said[-800:]!r}", seconds)
    if int(held) > HELD and status != "fault":
        return Outcome("fault", f"unbounded memory: held {int(held) >> 20} MB. {text}", seconds, int(held))
    return Outcome(status, text, seconds, int(held))


def _read_until(reader: int, end: float) -> bytes | None:
    """All that the pipe brings, or None if it stays open."""
    parts: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while time.monotonic() < end:
            if selector.select(max(0.0, end - time.monotonic())):
                part = os.read(reader, 65536)
                if not part:
                    os.close(reader)
                    return b"".join(parts)
                parts.append(part)
    os.close(reader)
    return None


def _child(make: Callable[[random.Random, Path], Case], seed: str, folder: Path, writer: int) -> None:
    """Never returns."""
    status, text, held = "fault", "", 0
    try:
        faulthandler.enable(os.fdopen(os.dup(writer), "w"))
        os.chdir(folder)
        case = make(random.Random(seed), folder)
        before = _resident()
        watcher = Opens(case.forbidden)
        faults: list[str] = []
        sys.addaudithook(lambda event, arguments: _judge(event, arguments, folder, faults))
        limit = _status("VmSize") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        status, text = run(case)
        held = max(0, _status("VmHWM") - before)
        faults += [f"opened {name}, which was not asked for" for name in watcher.seen()]
        if faults:
            status, text = "fault", "; ".join(dict.fromkeys(faults))
    except BaseException:
        text = "the harness failed: " + traceback.format_exc()
    os.write(writer, f"{status}\n{held}\n{text[:20_000]}".encode(errors="replace"))
    os._exit(0)


def run(case: Case) -> tuple[str, str]:
    """(status, text) of a case, by the contract of the command line."""
    try:
        case.run()
    except REFUSALS as error:
        text = str(error)
        if not text.strip():
            return "fault", f"{type(error).__name__} without a word"
        if len(text) > LONGEST_ERROR:
            return "fault", f"an error of {len(text)} characters: {text[:200]}"
        return "refused", text
    except BaseException as error:  # a traceback, to who runs the command
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "fault", f"{type(error).__name__}: {str(error)[:300]} ({last.filename}:{last.lineno})"
    return "read", ""


def _judge(event: str, arguments: tuple, folder: Path, faults: list[str]) -> None:
    """An audit hook: what no reader of a file has to do."""
    if event.startswith((*PROGRAMS, *NETWORK)):
        faults.append(f"{event} {str(arguments)[:200]}")
    elif event == "pickle.find_class":
        faults.append(f"unpickled {arguments}")
    elif event == "open" and isinstance(arguments[0], str | bytes):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        writes = bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        inside = path == str(folder) or path.startswith((f"{folder}{os.sep}", SCRATCH))
        if writes and not inside and path != os.devnull and "__pycache__" not in path:
            faults.append(f"wrote {path}")
        elif not writes and not inside and not path.startswith(READABLE):
            faults.append(f"read {path}")


class Opens:
    """Linux's inotify on files: FFmpeg opens what Python's audit hooks do not see."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        self._names = {
            self._libc.inotify_add_watch(
                self._descriptor, os.fsencode(path), IN_OPEN | IN_ACCESS | IN_MODIFY
            ): path.name
            for path in paths
        }

    def seen(self) -> list[str]:
        try:
            events = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return []
        finally:
            os.close(self._descriptor)
        size = struct.calcsize("iIII")
        return sorted({self._names[struct.unpack_from("i", events, at)[0]] for at in range(0, len(events), size)})


def _resident() -> int:
    """Bytes held now, from which the peak counts anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))
