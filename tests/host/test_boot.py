"""ComfyUI starts with this pack, lists its nodes, serves its help pages and templates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.comfyui.install import REPOSITORY
from tools.comfyui.pack import PACK_NAME
from tools.comfyui.server import ComfyServer
from tools.workflows.blueprints import BLUEPRINTS
from tools.workflows.shipped import NAMES

from .test_inside import run_script

pytestmark = pytest.mark.host

NODES = (
    "HarmonyCheckpointLoader",
    "HarmonyModelLoader",
    "HarmonyAudioVAELoader",
    "HarmonyLora",
    "HarmonyTextEncode",
    "HarmonyClip",
    "HarmonyAnchors",
    "HarmonySyncCFG",
    "HarmonySampler",
    "HarmonyScheduler",
    "HarmonyGivenAudio",
    "HarmonyGivenVideo",
    "HarmonyFirstFrame",
    "HarmonyReferenceAudio",
    "HarmonyReferenceImage",
    "HarmonyDecode",
    "HarmonySyncReport",
    "HarmonySyncMap",
)


def test_pack_imports_without_a_warning(server: ComfyServer) -> None:
    # ComfyUI exits 0 on a broken pack, so the log is what counts
    log, started, _ = server.log.partition("Starting server")
    assert started
    assert "IMPORT FAILED" not in log
    assert "Error while calling comfy_entrypoint" not in log
    ours = [line for line in log.splitlines() if PACK_NAME in line or line.startswith("Harmony:")]
    examples, imported = ours
    assert examples.startswith("Harmony: the templates' harmony_example.mp4, harmony_example.png, "), examples
    assert PACK_NAME in imported, imported  # under "Import times for custom nodes"


def test_import_is_light(comfy_tree: Path, tmp_path: Path) -> None:
    run_script(comfy_tree, "imports", tmp_path)


@pytest.mark.parametrize("name", NODES)
def test_node_is_complete(server: ComfyServer, name: str) -> None:
    info = server.get(f"/object_info/{name}")[name]
    assert info["category"] == "Harmony"
    assert info["description"]
    assert info["search_aliases"]
    widgets = {"INT", "FLOAT", "STRING", "COMBO", "BOOLEAN"}
    for section in ("required", "optional"):
        for input_name, (kind, options) in info["input"].get(section, {}).items():
            assert kind not in widgets or options.get("tooltip"), f"{input_name} has no tooltip"
    assert f"# {info['display_name']}" in server.get_bytes(f"/extensions/{PACK_NAME}/docs/{name}.md").decode()


def test_every_node_is_listed_here(server: ComfyServer) -> None:
    info = server.get("/object_info")
    ours = {name for name, node in info.items() if node["python_module"] == f"custom_nodes.{PACK_NAME}"}
    assert ours == set(NODES)
    assert {path.stem for path in (REPOSITORY / "web" / "docs").glob("*.md")} == ours


def test_templates_are_listed(server: ComfyServer) -> None:
    assert sorted(server.get("/workflow_templates")[PACK_NAME]) == NAMES


def test_blueprints_are_listed(server: ComfyServer) -> None:
    listed = {entry["name"] for entry in server.get("/global_subgraphs").values() if PACK_NAME in str(entry)}
    assert listed == set(BLUEPRINTS)


@pytest.mark.parametrize("name", NODES)
def test_help_is_served_in_chinese(server: ComfyServer, name: str) -> None:
    title = server.get("/i18n")["zh"]["nodeDefs"][name]["display_name"]
    assert server.get_bytes(f"/extensions/{PACK_NAME}/docs/{name}/zh.md").decode().startswith(f"# {title}\n")
