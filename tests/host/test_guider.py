"""The guider and what surrounds a run, inside ComfyUI's own interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_inside import run_script

pytestmark = pytest.mark.host


def test_batches_masks_driver_cache_and_other_negatives(comfy_tree: Path, tmp_path: Path) -> None:
    run_script(comfy_tree, "guider_harmony", tmp_path)


def test_what_is_given_and_what_is_made(comfy_tree: Path, tmp_path: Path) -> None:
    run_script(comfy_tree, "given", tmp_path)


def test_core_s_nodes_that_guide_cache_and_mask(comfy_tree: Path, tmp_path: Path) -> None:
    run_script(comfy_tree, "core_guidance", tmp_path)
