"""Files of every published layout as MODEL, in ComfyUI's own interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_inside import run_script

pytestmark = pytest.mark.host


def test_every_layout_loads_and_samples(comfy_tree: Path, tmp_path: Path) -> None:
    run_script(comfy_tree, "loader_models", tmp_path, str(tmp_path))
