"""pyright with a ComfyUI's own types: what the nodes do with core's classes fits them.

    python -m tools.comfyui.core_types TREE

`make check` runs pyright without a ComfyUI too, where core's names are unknown, and the only rule that is off in
`nodes` is the one about imports that are not there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from .install import REPOSITORY


def types_command(tree: Path, folder: Path) -> list[str]:
    """Pyright on this checkout with a tree's modules; its config is put into `folder`."""
    config = {"extends": str(REPOSITORY / "pyproject.toml"), "extraPaths": [str(tree.resolve())]}
    path = folder / "pyrightconfig.json"
    path.write_text(json.dumps(config))
    return [sys.executable, "-m", "pyright", "--project", str(path)]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="harmony-types-") as folder:
        return subprocess.run(types_command(Path(sys.argv[1]), Path(folder))).returncode


if __name__ == "__main__":
    raise SystemExit(main())
