"""What a server says of its nodes (/object_info), and the prompts that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .graph import Graph, Note, Out

NOTES = {"Note", "MarkdownNote"}  # the frontend's own, never sent to the server
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"  # each of its choices has inputs of its own

# what the frontend stores after a widget's value: a seed's "randomize", an upload button, an audio player
EXTRA_VALUES = {"control_after_generate": 1, "image_upload": 1, "video_upload": 1, "audio_upload": 2}

Definitions = dict[str, dict[str, Any]]


class Socket(NamedTuple):
    """An input of a node. Those of a dynamic combo's choice are called `combo.input`."""

    name: str
    kind: Any  # a type, or the choices of an old-style combo
    options: dict[str, Any]
    optional: bool

    @property
    def type(self) -> str:
        return "COMBO" if isinstance(self.kind, list) else self.kind

    @property
    def is_widget(self) -> bool:
        """Whether the page shows a widget; of several types ("FLOAT,INT") one may be the widget's."""
        return self.options.get("widgetType", self.type) in {*WIDGET_TYPES, DYNAMIC_COMBO}

    @property
    def default(self) -> Any:
        """The value that a widget starts with."""
        if self.type == DYNAMIC_COMBO:
            return self.options["options"][0]["key"]
        choices = self.kind if isinstance(self.kind, list) else self.options.get("options", [])
        return self.options.get("default", choices[0] if choices else "")


def sockets(inputs: dict[str, Any], values: dict[str, Any], prefix: str = "") -> Iterator[Socket]:
    """Inputs by a node's sections, in the page's order; those of dynamic combos as `values` choose."""
    for section in ("required", "optional"):
        for name, (kind, *options) in inputs.get(section, {}).items():
            socket = Socket(prefix + name, kind, options[0] if options else {}, section == "optional")
            yield socket
            if socket.type == DYNAMIC_COMBO:
                chosen = values.get(socket.name, socket.default)
                (choice,) = (each for each in socket.options["options"] if each["key"] == chosen)
                yield from sockets(choice["inputs"], values, f"{socket.name}.")


def api_prompt(graph: Graph, definitions: Definitions) -> dict[str, Any]:
    """The API-format prompt of a graph.

    Raises:
        ValueError: a node input that the server's node does not have, or a required one that is left open.
    """
    numbers = {key: index + 1 for index, key in enumerate(graph)}
    prompt = {}
    for key, node in graph.items():
        if isinstance(node, Note):
            continue
        info = definitions[node.type]
        left, inputs = dict(node.inputs), {}
        for socket in sockets(info["input"], node.inputs):
            value = left.pop(socket.name, socket.default if socket.is_widget else None)
            if isinstance(value, Out):
                origin = definitions[graph[value.node].type]
                value = [str(numbers[value.node]), origin["output_name"].index(value.name)]
            if value is None and not socket.optional:
                raise ValueError(f"{key}: {node.type} needs {socket.name!r}; give it in the graph.")
            if value is not None:
                inputs[socket.name] = value
        if left:
            raise ValueError(f"{key}: {node.type} has no input {', '.join(left)}; correct the graph.")
        title = info["display_name"] or node.type
        prompt[str(numbers[key])] = {"class_type": node.type, "inputs": inputs, "_meta": {"title": title}}
    return prompt


def page_prompt(workflow: dict[str, Any], definitions: Definitions) -> dict[str, Any]:
    """What the page sends for a workflow that it has saved.

    Raises:
        KeyError: a node that the server does not have.
        ValueError: more widget values than widgets.
    """
    links = {link[0]: link for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        values = _widget_values(node, definitions[node["type"]])
        for socket in node["inputs"]:
            if socket.get("link") is not None:
                _, origin, slot, *_ = links[socket["link"]]
                values[socket["name"]] = [str(origin), slot]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": values}
    return prompt


def _widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Widget values by name: the frontend stores them by position, and those that are missing keep their default."""
    stored = list(node.get("widgets_values", []))
    values: dict[str, Any] = {}
    for socket in sockets(info["input"], values):
        if socket.is_widget:
            values[socket.name] = stored.pop(0) if stored else socket.default
            del stored[: sum(extra for flag, extra in EXTRA_VALUES.items() if socket.options.get(flag))]
    if stored:
        raise ValueError(f"{node['type']} has {len(stored)} widget values too many: {stored}.")
    return values


def completed(prompt: dict[str, Any], definitions: Definitions) -> dict[str, Any]:
    """An API-format prompt with every widget's value; without titles."""
    out = {}
    for key, node in prompt.items():
        inputs = dict(node["inputs"])
        for socket in sockets(definitions[node["class_type"]]["input"], inputs):
            if socket.is_widget:
                inputs.setdefault(socket.name, socket.default)
        out[key] = {"class_type": node["class_type"], "inputs": inputs}
    return out
