"""Import ComfyUI and this pack without a server, in ComfyUI's own interpreter."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]


def load_pack(tree: str, folder: Path = REPOSITORY, *flags: str) -> ModuleType:
    """The pack in `folder` as ComfyUI would import it; `tree` is the checkout, started with `flags`."""
    sys.path.insert(0, tree)
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


def message_of(call: Callable, *arguments: Any) -> str:
    """What a call is refused with. Raises AssertionError when it goes through."""
    try:
        call(*arguments)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{arguments} went through")
