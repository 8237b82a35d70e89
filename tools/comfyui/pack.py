"""This pack as ComfyUI gets it: put into a folder of custom nodes, or imported without a server."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from .install import REPOSITORY

PACK_NAME = "ComfyUI-Harmony"


def archive() -> list[str]:
    """The files that the registry publishes: those of a clone of this working tree without what .comfyignore names."""
    listed = _git_files("--cached", "--others", "--exclude-standard")
    ignored = _git_files("--cached", "--others", "--ignored", "--exclude-from=.comfyignore")
    return sorted(name for name in listed - ignored if (REPOSITORY / name).is_file())


def _git_files(*options: str) -> set[str]:
    command = ["git", "ls-files", "-z", *options]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return set(filter(None, done.stdout.split("\0")))


def install_pack(custom_nodes: Path) -> Path:
    """The archive's files, put into `custom_nodes`."""
    target = custom_nodes / PACK_NAME
    for name in archive():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, target / name)
    return target


def load_pack(tree: str, folder: Path = REPOSITORY, *flags: str) -> ModuleType:
    """The pack in `folder` as ComfyUI, in whose interpreter we are, imports it; `tree` is the checkout, started with
    `flags`."""
    # without the repository: the pack must find its own files relatively, and `nodes` is ComfyUI's
    sys.path[:] = [tree, *(path for path in sys.path if path != str(REPOSITORY))]
    sys.argv = ["main.py", "--cpu", *flags]
    import comfy.options

    comfy.options.enable_args_parsing()
    import utils.install_util  # noqa: F401  before core's nodes.py hides this package, as in main.py

    spec = importlib.util.spec_from_file_location(
        "harmony_pack", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["harmony_pack"] = module
    spec.loader.exec_module(module)
    return module
