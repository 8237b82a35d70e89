"""References that are appended, in ComfyUI's own interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_inside import run_script

pytestmark = pytest.mark.host


def test_appended_references_are_the_pipelines(comfy_tree: Path, tmp_path: Path) -> None:
    run_script(comfy_tree, "appended_references", tmp_path, str(tmp_path))
