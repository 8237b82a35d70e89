"""Write workflows/ and locales/en: the graphs of workflow_graphs.py laid out for ComfyUI's page, the nodes' texts.

    python -m tests.host.build_workflows [COMFYUI_PATH] [--thumbnails NAME ...]

Node inputs, their order and their defaults come from a real server, so that this command is all it takes after one
of them changed. --thumbnails also draws the pictures of workflows (all, if none is named) in the template browser:
those that need no downloaded weights are run, for six frames and the waveform; of the others Chromium shows the graph.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .comfyui import CACHE, REPOSITORY, TREE_NAMES, ComfyServer, ensure_python, install_pack
from .graph import EXTRA_VALUES, WIDGET_TYPES
from .thumbnails import write_thumbnails
from .workflow_graphs import CLIP, GRAPHS, GUIDANCE, MODEL, RESULT, SAMPLING, Graph, Node, Note, Out
from .workflows import WORKFLOWS

COLUMNS = {MODEL: 320, CLIP: 380, GUIDANCE: 340, SAMPLING: 300, RESULT: 420}  # width of its nodes in pixels
LEFT, TOP, GAP, MARGIN, HEADER = 20, 120, 50, 60, 40
SOCKET, WIDGET, TEXT = 22, 26, 90
PREVIEWS = {  # pixels below the widgets
    "LoadImage": 240,
    "LoadVideo": 240,
    "LoadAudio": 60,
    "SaveVideo": 420,
    "SamplerCustomAdvanced": 240,
    "HarmonySampler": 240,
}
NOTE_LINE_CHARACTERS, NOTE_LINE = 38, 24
EXTRA_DEFAULTS = {
    "control_after_generate": ["randomize"],
    "image_upload": ["image"],
    "video_upload": ["image"],
    "audio_upload": [None, None],
}
SEED = "control_after_generate"
OPTIONAL_SHAPE = 7  # the frontend draws a hollow socket


def sections(info: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any], bool]]:
    """(name, type, options, optional) of every input of a node."""
    for section in ("required", "optional"):
        for name, (kind, *options) in info["input"].get(section, {}).items():
            yield name, kind, options[0] if options else {}, section == "optional"


def default(kind: Any, options: dict[str, Any]) -> Any:
    """The value that a widget starts with."""
    choices = kind if isinstance(kind, list) else options.get("options", [])
    return options.get("default", choices[0] if choices else "")


def is_widget(kind: Any) -> bool:
    return isinstance(kind, list) or kind in WIDGET_TYPES


def api_graph(graph: Graph, object_info: dict[str, Any]) -> dict[str, Any]:
    """The API-format prompt.

    Raises:
        ValueError: a node input that the server's node does not have, or a required one that is left open.
    """
    numbers = {key: index + 1 for index, key in enumerate(graph)}
    prompt = {}
    for key, node in graph.items():
        if isinstance(node, Note):
            continue
        info = object_info[node.type]
        left, inputs = dict(node.inputs), {}
        for name, kind, options, optional in sections(info):
            value = left.pop(name, default(kind, options) if is_widget(kind) else None)
            if isinstance(value, Out):
                origin = object_info[graph[value.node].type]
                value = [str(numbers[value.node]), origin["output_name"].index(value.name)]
            if value is None and not optional:
                raise ValueError(f"{key}: {node.type} needs {name!r}; give it in workflow_graphs.py.")
            if value is not None:
                inputs[name] = value
        if left:
            raise ValueError(f"{key}: {node.type} has no input {', '.join(left)}; correct workflow_graphs.py.")
        title = info["display_name"] or node.type
        prompt[str(numbers[key])] = {"class_type": node.type, "inputs": inputs, "_meta": {"title": title}}
    return prompt


def page_graph(name: str, graph: Graph, prompt: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """The workflow as ComfyUI's page saves it."""
    nodes, links = [], []
    for order, node in enumerate(graph.values()):
        identity = order + 1
        if isinstance(node, Note):
            nodes.append(_note(node, identity, order))
        else:
            nodes.append(_page_node(node, identity, order, prompt[str(identity)], object_info[node.type], links))
    for link, origin, slot, *_ in links:
        nodes[origin - 1]["outputs"][slot]["links"].append(link)
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"harmony/{name}")),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": _lay_out(list(graph.values()), nodes),
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _page_node(
    node: Node, identity: int, order: int, called: dict[str, Any], info: dict[str, Any], links: list[Any]
) -> dict[str, Any]:
    """One node; its links are added to `links`."""
    sockets, widgets, values, height = [], [], [], 0
    for name, kind, options, optional in sections(info):
        value = called["inputs"].get(name)
        linked = isinstance(value, list)
        socket: dict[str, Any] = {"name": name, "type": "COMBO" if isinstance(kind, list) else kind}
        if is_widget(kind):
            socket["widget"] = {"name": name}
            values.append(default(kind, options) if linked else value)
            values += [extra for flag in EXTRA_VALUES if options.get(flag) for extra in EXTRA_DEFAULTS[flag]]
            height += TEXT if options.get("multiline") else WIDGET
            height += WIDGET * bool(options.get(SEED))
        socket["link"] = None
        if linked:
            socket["link"] = len(links) + 1
            links.append([len(links) + 1, int(value[0]), value[1], identity, None, socket["type"]])
        if optional:
            socket["shape"] = OPTIONAL_SHAPE
        (widgets if is_widget(kind) else sockets).append(socket)
    inputs = sockets + widgets
    for slot, socket in enumerate(inputs):
        if socket["link"] is not None:
            links[socket["link"] - 1][4] = slot
    outputs = [
        {"name": output, "type": kind, "links": []}
        for output, kind in zip(info["output_name"], info["output"], strict=True)
    ]
    height += HEADER + SOCKET * max(len(sockets), len(outputs)) + PREVIEWS.get(node.type, 0)
    return {
        "id": identity,
        "type": node.type,
        "pos": [0, 0],
        "size": [COLUMNS[node.column], height],
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": inputs,
        "outputs": outputs,
        "properties": {"Node name for S&R": node.type},
        "widgets_values": values,
    }


def _note(note: Note, identity: int, order: int) -> dict[str, Any]:
    lines = sum(1 + len(line) // NOTE_LINE_CHARACTERS for line in note.text.split("\n"))
    return {
        "id": identity,
        "type": "MarkdownNote",
        "pos": [0, 0],
        "size": [COLUMNS[note.column], HEADER + NOTE_LINE * lines],
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": note.title,
        "properties": {},
        "widgets_values": [note.text],
        "color": "#432",
        "bgcolor": "#653",
    }


def _lay_out(described: list[Node | Note], nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stack the nodes of each column, and the groups that frame the columns."""
    groups, left = [], LEFT
    for column, width in COLUMNS.items():
        members = [node for what, node in zip(described, nodes, strict=True) if what.column == column]
        if not members:
            continue
        top = TOP
        for node in members:
            node["pos"] = [left, top]
            top += node["size"][1] + GAP
        box = [left - GAP // 3, TOP - MARGIN - 20, width + 2 * (GAP // 3), top - TOP + MARGIN]
        groups.append({"id": len(groups) + 1, "title": column, "bounding": box, "color": "#3f789e", "font_size": 22})
        left += width + MARGIN
    return groups


def write(object_info: dict[str, Any]) -> None:
    """Every workflow in both formats."""
    for name, make in GRAPHS.items():
        graph = make()
        prompt = api_graph(graph, object_info)
        _save(WORKFLOWS / f"{name}.json", page_graph(name, graph, prompt, object_info))
        _save(WORKFLOWS / "api" / f"{name}.json", prompt)


def write_english(object_info: dict[str, Any]) -> None:
    """locales/en: what the nodes say of themselves, in the shape that translations have."""
    _save(REPOSITORY / "locales" / "en" / "nodeDefs.json", node_texts(object_info))


def node_texts(object_info: dict[str, Any]) -> dict[str, Any]:
    """Every text of this pack's nodes, by node, input and output."""
    texts = {}
    for name, info in sorted(object_info.items()):
        if info["category"] != "Harmony":
            continue
        inputs = {socket: _text(socket, options.get("tooltip")) for socket, _, options, _ in sections(info)}
        outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
        texts[name] = {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": inputs,
            "outputs": {str(index): _text(*output) for index, output in enumerate(outputs)},
        }
    return texts


def _text(name: str, tooltip: str | None) -> dict[str, str]:
    return {"name": name} | ({"tooltip": tooltip} if tooltip else {})


def _save(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def _server(tree: Path) -> Iterator[ComfyServer]:
    with tempfile.TemporaryDirectory(prefix="harmony-workflows-") as folder:
        server = ComfyServer(tree, Path(folder), ensure_python(tree))
        install_pack(server.base / "custom_nodes")
        server.start()
        try:
            yield server
        finally:
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the shipped workflows.")
    parser.add_argument("comfyui", type=Path, nargs="?", default=CACHE / TREE_NAMES[0], help="a ComfyUI checkout")
    parser.add_argument("--thumbnails", nargs="*", metavar="NAME", help="also draw the pictures of these (or all)")
    arguments = parser.parse_args()
    with _server(arguments.comfyui.resolve()) as server:
        object_info = server.get("/object_info")
        write(object_info)
        write_english(object_info)
        if arguments.thumbnails is not None:
            write_thumbnails(server, arguments.thumbnails or list(GRAPHS))


if __name__ == "__main__":
    main()
