"""A graph as ComfyUI's page saves it: nodes with places and sizes, in a column for each part of the work."""

from __future__ import annotations

import uuid
from math import ceil
from typing import Any

from .definitions import EXTRA_VALUES, Definitions, sockets
from .graph import CLIP, GUIDANCE, MODEL, RESULT, SAMPLING, Graph, Node, Note

COLUMNS = {MODEL: 300, CLIP: 350, GUIDANCE: 320, SAMPLING: 300, RESULT: 380}  # width of its nodes in pixels
LEFT, TOP, GAP, MARGIN, HEADER = 20, 120, 40, 40, 40
TALLEST = 1290  # pixels of a stack; a page of 950 pixels shows it at 58 %, where ComfyUI still draws text
SOCKET, WIDGET, TEXT = 22, 26, 100
PREVIEWS = {  # pixels below the widgets
    "LoadImage": 240,
    "LoadVideo": 240,
    "LoadAudio": 60,
    "SaveVideo": 310,
    "SamplerCustomAdvanced": 205,
    "HarmonySampler": 240,
}
NOTE_LINE_CHARACTERS, NOTE_LINE = 36, 24
EXTRA_DEFAULTS = {
    "control_after_generate": ["randomize"],
    "image_upload": ["image"],
    "video_upload": ["image"],
    "audio_upload": [None, None],
}
SEED = "control_after_generate"
OPTIONAL_SHAPE = 7  # the frontend draws a hollow socket


def page_graph(name: str, graph: Graph, prompt: dict[str, Any], definitions: Definitions) -> dict[str, Any]:
    """The workflow as ComfyUI's page saves it."""
    nodes, links = [], []
    for order, node in enumerate(graph.values()):
        identity = order + 1
        if isinstance(node, Note):
            nodes.append(_note(node, identity, order))
        else:
            nodes.append(_page_node(node, identity, order, prompt[str(identity)], definitions[node.type], links))
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
    given, widgets, values, height = [], [], [], 0
    for each in sockets(info["input"], called["inputs"]):
        value = called["inputs"].get(each.name)
        linked = isinstance(value, list)
        socket: dict[str, Any] = {"name": each.name, "type": each.type}
        if each.is_widget:
            socket["widget"] = {"name": each.name}
            values.append(each.default if linked else value)
            extras = EXTRA_DEFAULTS | ({SEED: ["fixed"]} if node.keeps_seed else {})
            values += [extra for flag in EXTRA_VALUES if each.options.get(flag) for extra in extras[flag]]
            height += TEXT if each.options.get("multiline") else WIDGET
            height += WIDGET * bool(each.options.get(SEED))
        socket["link"] = None
        if linked:
            socket["link"] = len(links) + 1
            links.append([len(links) + 1, int(value[0]), value[1], identity, None, socket["type"]])
        if each.optional:
            socket["shape"] = OPTIONAL_SHAPE
        (widgets if each.is_widget else given).append(socket)
    inputs = given + widgets
    for slot, socket in enumerate(inputs):
        if socket["link"] is not None:
            links[socket["link"] - 1][4] = slot
    outputs = [
        {"name": output, "type": kind, "links": []}
        for output, kind in zip(info["output_name"], info["output"], strict=True)
    ]
    height += HEADER + SOCKET * max(len(given), len(outputs)) + PREVIEWS.get(node.type, 0)
    properties: dict[str, Any] = {"Node name for S&R": node.type}
    if node.downloads:
        properties["models"] = [
            {"name": each.name, "url": each.url, "directory": each.folder} for each in node.downloads
        ]
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
        "properties": properties,
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
    """Stack the nodes of each column, a tall one in several stacks, and the groups that frame the columns."""
    groups, left = [], LEFT
    for column, width in COLUMNS.items():
        members = [node for what, node in zip(described, nodes, strict=True) if what.column == column]
        if not members:
            continue
        first, bottom = left, TOP
        for stack in _stacks(members):
            top = TOP
            for node in stack:
                node["pos"] = [left, top]
                top += node["size"][1] + GAP
            bottom = max(bottom, top)
            left += width + MARGIN
        box = [first - GAP // 3, TOP - 80, left - MARGIN - first + 2 * (GAP // 3), bottom - TOP + 60]
        groups.append({"id": len(groups) + 1, "title": column, "bounding": box, "color": "#3f789e", "font_size": 22})
    return groups


def _stacks(members: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The nodes of a column in as few stacks as keep it low enough to be read when it opens, about equally high."""
    heights = [node["size"][1] + GAP for node in members]
    share = sum(heights) / ceil(sum(heights) / TALLEST)
    stacks: list[list[dict[str, Any]]] = [[]]
    filled = 0
    for node, height in zip(members, heights, strict=True):
        if stacks[-1] and filled + height / 2 > share:
            stacks.append([])
            filled = 0
        stacks[-1].append(node)
        filled += height
    return stacks
