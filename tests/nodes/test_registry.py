"""What ComfyUI's registry publishes, and what it is told."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from tools.comfyui.install import REPOSITORY
from tools.comfyui.pack import archive

DOCS = REPOSITORY / "web" / "docs"
CHINESE = json.loads((REPOSITORY / "locales" / "zh" / "nodeDefs.json").read_text())
LEFT_OUT = {".ci", ".github", "benchmarks", "tests", "tools"}


def test_the_archive_is_the_pack_alone() -> None:
    files = [Path(name) for name in archive()]
    top = {path.parts[0] for path in files}
    assert not top & LEFT_OUT
    assert {"__init__.py", "LICENSE", "README.md", "harmony_core", "locales", "nodes", "pyproject.toml"} <= top
    assert {"web", "workflows"} <= top
    assert not any(path.parts[:2] == ("docs", "images") for path in files)
    assert sum((REPOSITORY / path).stat().st_size for path in files) < 20e6


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 reads no TOML")
def test_the_registry_is_told() -> None:
    toml = importlib.import_module("tomllib").loads((REPOSITORY / "pyproject.toml").read_text())
    project, comfy = toml["project"], toml["tool"]["comfy"]
    assert "comfyui" not in project["name"].lower()
    assert {"Repository", "Documentation", "Bug Tracker"} <= set(project["urls"])
    assert project["dependencies"] == []
    assert comfy["requires-comfyui"] == ">=0.20.1"
    assert comfy["DisplayName"]


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_help_is_in_chinese_too(path: Path) -> None:
    """The same headings, tables and lists, so that neither page knows more than the other."""
    english, chinese = path.read_text(), (DOCS / path.stem / "zh.md").read_text()
    assert shape(chinese) == shape(english)
    assert chinese.startswith(f"# {CHINESE[path.stem]['display_name']}\n")


def shape(page: str) -> list[str]:
    """Its headings' depths, and which lines are table rows or list items."""
    starts = [line.split(" ", 1)[0] if not line.startswith("|") else "|" for line in page.splitlines() if line]
    return [start for start in starts if start == "|" or set(start) <= {"#"} or start == "-"]
