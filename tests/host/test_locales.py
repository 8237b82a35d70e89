"""Every text of every node in both languages, as ComfyUI serves them."""

from __future__ import annotations

import json

import pytest

from tools.comfyui.install import REPOSITORY
from tools.comfyui.server import ComfyServer
from tools.workflows.build import node_texts

pytestmark = pytest.mark.host

LOCALES = REPOSITORY / "locales"


def keys(texts: object, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Paths of all leaves."""
    if not isinstance(texts, dict):
        return {path}
    return {leaf for name, value in texts.items() for leaf in keys(value, (*path, name))}


def test_english_is_what_the_nodes_say(server: ComfyServer) -> None:
    english = json.loads((LOCALES / "en" / "nodeDefs.json").read_text())
    assert english == node_texts(server.get("/object_info")), "run `python -m tools.workflows.build`"


def test_chinese_is_complete(server: ComfyServer) -> None:
    english, chinese = (server.get("/i18n")[language]["nodeDefs"] for language in ("en", "zh"))
    ours = {name: texts for name, texts in english.items() if name.startswith("Harmony")}
    assert keys({name: chinese.get(name, {}) for name in ours}) == keys(ours)
    assert all(texts["description"] != ours[name]["description"] for name, texts in chinese.items() if name in ours)
