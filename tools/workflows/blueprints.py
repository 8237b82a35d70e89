"""Subgraphs that the page offers beside the nodes: a few nodes to drop into a graph that somebody has."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from .definitions import Definitions, api_prompt
from .graph import GUIDANCE, MODEL, Graph, Node, Out
from .layout import page_graph

OUTSIDE = "outside"  # the node of a graph whose outputs are the subgraph's inputs
INPUT_NODE, OUTPUT_NODE = -10, -20  # the page's ids of a subgraph's two sides
ROW, EDGE = 20, 120


@dataclass(frozen=True)
class Blueprint:
    """A subgraph. Links from outside are Out(OUTSIDE, name)."""

    description: str
    inputs: dict[str, str]  # name -> type
    outputs: dict[str, tuple[str, Out]]  # name -> type, where from
    graph: Graph
    widgets: tuple[tuple[str, str], ...]  # node, widget: shown on the outside


def _outside(*names: str) -> dict[str, Out]:
    return {name: Out(OUTSIDE, name) for name in names}


SYNC_CFG = Blueprint(
    description="In place of the guider of an LTX-2.x or MiniMax H3 graph: Harmony Anchors and Harmony SyncCFG. Give "
    "it the latent that the sampler gets. A text scale other than 1.0 needs the negative.",
    inputs={
        "model": "MODEL",
        "positive": "CONDITIONING",
        "negative": "CONDITIONING",
        "latent": "LATENT",
        "vae": "VAE",
        "audio_vae": "VAE",
        "first_frame": "IMAGE",
    },
    outputs={"guider": ("GUIDER", Out("guider", "GUIDER"))},
    graph={
        "anchors": Node("HarmonyAnchors", GUIDANCE, _outside("latent", "vae", "audio_vae", "first_frame", "positive")),
        "guider": Node(
            "HarmonySyncCFG",
            GUIDANCE,
            {
                **_outside("model", "positive", "negative"),
                "anchors": Out("anchors", "anchors"),
                "video_sync_scale": 1.5,
                "audio_sync_scale": 1.5,
                "video_text_scale": 1.0,
                "audio_text_scale": 1.0,
            },
        ),
    },
    widgets=tuple(
        ("guider", name) for name in ("video_sync_scale", "audio_sync_scale", "video_text_scale", "audio_text_scale")
    ),
)
BLUEPRINTS = {"SyncCFG for my graph": SYNC_CFG}


def page_blueprint(name: str, blueprint: Blueprint, definitions: Definitions) -> dict[str, Any]:
    """The workflow that the page takes a blueprint from: one node, whose type is the subgraph."""
    graph = {OUTSIDE: Node(OUTSIDE, MODEL), **blueprint.graph}
    outside = {"input": {}, "output_name": list(blueprint.inputs), "output": list(blueprint.inputs.values())}
    known = definitions | {OUTSIDE: outside | {"display_name": name}}
    page = page_graph(name, graph, api_prompt(graph, known), known)
    numbers = {key: index + 1 for index, key in enumerate(graph)}
    subgraph = _subgraph(name, blueprint, page, numbers)
    inputs = [{"name": each, "type": kind, "link": None} for each, kind in blueprint.inputs.items()]
    outputs = [{"name": each, "type": kind, "links": []} for each, (kind, _) in blueprint.outputs.items()]
    shown = [[str(numbers[node]), widget] for node, widget in blueprint.widgets]
    node = {
        "id": 1,
        "type": subgraph["id"],
        "pos": [0, 0],
        "size": [300, 290],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": inputs,
        "outputs": outputs,
        "properties": {"proxyWidgets": shown},
        "widgets_values": [],
    }
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "groups": [],
        "definitions": {"subgraphs": [subgraph]},
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _subgraph(name: str, blueprint: Blueprint, page: dict[str, Any], numbers: dict[str, int]) -> dict[str, Any]:
    """What is inside: the page's graph, its first node become the input side."""
    first, *nodes = page["nodes"]
    links = [
        _link(identity, INPUT_NODE if origin == first["id"] else origin, slot, target, target_slot, kind)
        for identity, origin, slot, target, target_slot, kind in page["links"]
    ]
    outputs = []
    for index, (output, (kind, out)) in enumerate(blueprint.outputs.items()):
        (node,) = (each for each in nodes if each["id"] == numbers[out.node])
        slot = [each["name"] for each in node["outputs"]].index(out.name)
        links.append(_link(len(links) + 1, node["id"], slot, OUTPUT_NODE, index, kind))
        node["outputs"][slot]["links"].append(len(links))
        outputs.append(_side(name, output, kind, [len(links)], index))
    inputs = [
        _side(name, socket["name"], socket["type"], socket["links"], index)
        for index, socket in enumerate(first["outputs"])
    ]
    right = max(node["pos"][0] + node["size"][0] for node in nodes)
    return {
        "id": _identity(name, "subgraph"),
        "version": 1,
        "revision": 0,
        "name": name,
        "description": blueprint.description,
        "category": "Harmony",
        "config": {},
        "extra": {},
        "widgets": [],
        "groups": [],
        "state": {
            "lastGroupId": 0,
            "lastNodeId": page["last_node_id"],
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "inputNode": {"id": INPUT_NODE, "bounding": [0, EDGE, EDGE, ROW * (len(inputs) + 2)]},
        "outputNode": {"id": OUTPUT_NODE, "bounding": [right + EDGE, EDGE, EDGE, ROW * (len(outputs) + 2)]},
        "inputs": inputs,
        "outputs": outputs,
        "nodes": nodes,
        "links": links,
    }


def _side(blueprint: str, name: str, kind: str, links: list[int], index: int) -> dict[str, Any]:
    """A socket on one of the subgraph's sides."""
    place = [EDGE, EDGE + ROW * (index + 1)]
    return {"id": _identity(blueprint, name), "name": name, "type": kind, "linkIds": links, "pos": place}


def _link(identity: int, origin: int, slot: int, target: int, target_slot: int, kind: str) -> dict[str, Any]:
    return {
        "id": identity,
        "origin_id": origin,
        "origin_slot": slot,
        "target_id": target,
        "target_slot": target_slot,
        "type": kind,
    }


def _identity(blueprint: str, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"harmony/{blueprint}/{name}"))
