"""The ComfyUI trees that the pack is tested on, and an interpreter for each.

Everything lives under ~/.cache/comfyui-harmony: the checkouts, one venv with torch, and on top of it a venv a tree with
that tree's own requirements and nothing else, so a test that passes there proves that the pack needs nothing more.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".cache" / "comfyui-harmony"
UPSTREAM = "https://github.com/comfyanonymous/ComfyUI.git"
REVISIONS = {  # by the name of its folder in the cache, oldest first
    "ComfyUI-0.20.1": "v0.20.1",
    "ComfyUI": "aa9d2fc713664e9ffe37763f4c9240c0c3eda667",  # 0.20.1 and a hundred commits
    "ComfyUI-0.33": "783545f689a0af730065994b46b382ae24844c99",  # 0.33.0 and forty commits
}


class ComfyUnavailableError(RuntimeError):
    """No ComfyUI tree here and none could be fetched."""


def wanted_trees() -> list[Path]:
    """Checkouts to test on, oldest first, here or not: $COMFYUI_PATH alone if set, else those of the cache."""
    if path := os.environ.get("COMFYUI_PATH"):
        return [Path(path).expanduser().resolve()]
    return [CACHE / name for name in REVISIONS]


def is_here(tree: Path) -> bool:
    return (tree / "main.py").is_file()


def ensure_tree(tree: Path) -> Path:
    """`tree`, cloned if it is missing and one of ours.

    Raises:
        ComfyUnavailableError: it is missing and cannot be cloned.
    """
    if is_here(tree):
        return tree
    if tree.parent != CACHE or tree.name not in REVISIONS:
        raise ComfyUnavailableError(f"There is no main.py in {tree}; give the folder of a ComfyUI checkout.")
    with _lock(CACHE / f"{tree.name}.lock"):
        if not is_here(tree):
            _clone(tree, REVISIONS[tree.name])
    return tree


def _clone(tree: Path, revision: str) -> None:
    steps = (
        ["init", "--quiet", str(tree)],
        ["-C", str(tree), "fetch", "--quiet", "--depth", "1", UPSTREAM, revision],
        ["-C", str(tree), "checkout", "--quiet", "FETCH_HEAD"],
    )
    for step in steps:
        try:
            done = subprocess.run(["git", *step], capture_output=True, text=True, timeout=600)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ComfyUnavailableError(f"cannot clone {tree.name}: {error}") from error
        if done.returncode:
            raise ComfyUnavailableError(f"cannot clone {tree.name}: {done.stderr.strip()}")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Several test processes may want the same at once; one makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure_python(tree: Path) -> Path:
    """The interpreter that runs `tree`: $COMFYUI_PYTHON, else its venv, made anew with its requirements (minutes)."""
    if python := os.environ.get("COMFYUI_PYTHON"):
        return Path(python)
    torch, venv = CACHE / "venv-torch", CACHE / f"venv-{tree.name}"
    requirements = tree / "requirements.txt"
    with _lock(CACHE / "venv-torch.lock"):
        _make_venv(torch, ["torch", "torchvision"], "torch torchvision", below=None)
    with _lock(CACHE / f"{venv.name}.lock"):
        if _make_venv(venv, ["-r", str(requirements)], requirements.read_text(), below=torch):
            _match_torchaudio(venv)
    return venv / "bin" / "python"


def _make_venv(venv: Path, packages: list[str], wanted: str, below: Path | None) -> bool:
    """A venv with `packages`; those of the venv `below` count, but its own win. False when it is there already."""
    complete = venv / "complete"
    if complete.is_file() and complete.read_text() == wanted:
        return False
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
    if below is not None:
        (_site_packages(venv) / "below.pth").write_text(f"{_site_packages(below)}\n")
    _install(venv, *packages)
    complete.write_text(wanted)
    return True


def _site_packages(venv: Path) -> Path:
    (found,) = venv.glob("lib/python*/site-packages")
    return found


def _install(venv: Path, *packages: str) -> None:
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True)


def _match_torchaudio(venv: Path) -> None:
    """An older torch, where the tree wants torchaudio and this one was built for another CUDA: pip does not see it."""
    python = str(venv / "bin" / "python")
    loads = "import importlib.util as u; u.find_spec('torchaudio') and __import__('torchaudio')"
    while subprocess.run([python, "-c", loads], capture_output=True).returncode:
        version = subprocess.check_output([python, "-c", "import torch; print(torch.__version__)"], text=True)
        _install(venv, "torch<" + ".".join(version.split(".")[:2]), "torchvision", "torchaudio")
