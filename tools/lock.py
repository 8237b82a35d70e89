"""Write requirements-dev.lock: the version of every package that development uses, but for torch and what is its own.

    python -m tools.lock        (uv must be installed: pip install uv)

Torch, torchvision, torchaudio, triton and the packages of CUDA are whatever fits the machine. `make setup LOCKED=1`
installs under the lock.
"""

from __future__ import annotations

import re
import subprocess
import sys

from .comfyui.install import REPOSITORY

LOCK = REPOSITORY / "requirements-dev.lock"
EXTRAS = ("standalone", "train", "weights", "chinese", "dev")
FREE = re.compile(r"(torch|torchvision|torchaudio|triton|nvidia|cuda)([-_].*)?")
TITLE = "# Written by `python -m tools.lock`. Torch, triton and CUDA's packages are left to the machine.\n"


def locked(listed: str) -> list[str]:
    """The pinned lines of uv's output that are not free."""
    lines = [line for line in listed.splitlines() if line and not line.startswith((" ", "#", "-"))]
    return [line for line in lines if not FREE.fullmatch(line.partition("==")[0])]


def main() -> None:
    extras = [argument for extra in EXTRAS for argument in ("--extra", extra)]
    command = ["uv", "pip", "compile", "--universal", "--no-annotate", "--no-header", *extras]
    listed = subprocess.run([*command, "pyproject.toml"], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    LOCK.write_text(TITLE + "\n".join(locked(listed.stdout)) + "\n")
    print(LOCK.name, file=sys.stderr)


if __name__ == "__main__":
    main()
