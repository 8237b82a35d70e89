"""LoRA files, partial loading and compilation, in ComfyUI's own interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_inside import run_script

pytestmark = pytest.mark.host


def test_each_strength_has_its_stream(comfy_tree: Path, tmp_path: Path) -> None:
    run_script(comfy_tree, "lora_strengths", tmp_path, str(tmp_path))
