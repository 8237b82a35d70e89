"""Checks that need ComfyUI's classes in one process, run by its own interpreter."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tools.comfyui.install import REPOSITORY, ensure_python
from tools.comfyui.pack import install_pack

pytestmark = pytest.mark.host

SCRIPTS = Path(__file__).parent / "inside"


def run_script(tree: Path, script: str, folder: Path, *arguments: str) -> None:
    """Run a script of `inside/` on a ComfyUI tree; its assertions are ours."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}  # for tools.comfyui.pack
    command = [str(ensure_python(tree)), str(SCRIPTS / f"{script}.py"), str(tree), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "script", ["harmless", "ltxav", "h3", "anchors", "context_windows", "several_devices", "quantised", "saved"]
)
def test_on_core_classes(comfy_tree: Path, tmp_path: Path, script: str) -> None:
    """Each script says at its top what it checks."""
    run_script(comfy_tree, script, tmp_path)


def test_a_broken_file_costs_its_own_nodes(comfy_tree: Path, tmp_path: Path) -> None:
    run_script(comfy_tree, "guards", tmp_path, str(install_pack(tmp_path)))
