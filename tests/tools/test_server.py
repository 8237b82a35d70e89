"""What is read of a server without starting one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.comfyui.install import ComfyUnavailableError, ensure_tree
from tools.comfyui.server import ComfyServer


def test_log_is_read_without_coloured_levels(tmp_path: Path) -> None:
    server = ComfyServer(tmp_path, tmp_path, tmp_path)
    lines = ["\x1b[32m[INFO]\x1b[0m Starting server", "", "[WARNING] Harmony: gone", "Harmony: [one] kept"]
    server.log_path.write_text("\n".join([*lines, "\x1b[32mPrompt executed\x1b[0m"]))
    assert server.log.split("\n") == ["Starting server", "", "Harmony: gone", "Harmony: [one] kept", "Prompt executed"]


def test_a_folder_without_comfyui_is_named(tmp_path: Path) -> None:
    with pytest.raises(ComfyUnavailableError, match=f"There is no main.py in {tmp_path}"):
        ensure_tree(tmp_path)
