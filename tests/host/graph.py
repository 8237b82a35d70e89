"""From the frontend's workflow format to the API's, for the nodes that our workflows use."""

from __future__ import annotations

from typing import Any

NOTES = {"Note", "MarkdownNote"}  # the frontend's own, never sent to the server
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}

# what the frontend stores after a widget's value: a seed's "randomize", an upload button, an audio player
EXTRA_VALUES = {"control_after_generate": 1, "image_upload": 1, "video_upload": 1, "audio_upload": 2}


def to_api(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """API-format prompt of a UI-format workflow.

    Raises:
        KeyError: a node that the server does not have.
    """
    links = {link[0]: link for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        values = _widget_values(node, object_info[node["type"]])
        for socket in node["inputs"]:
            if socket.get("link") is not None:
                _, origin, slot, *_ = links[socket["link"]]
                values[socket["name"]] = [str(origin), slot]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": values}
    return prompt


def _widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Widget values by name: the frontend stores them by position."""
    stored = list(node.get("widgets_values", []))
    values = {}
    for section in ("required", "optional"):
        for name, (kind, *options) in info["input"].get(section, {}).items():
            if not isinstance(kind, list) and kind not in WIDGET_TYPES:
                continue
            values[name] = stored.pop(0)
            flags = options[0] if options else {}
            del stored[: sum(extra for flag, extra in EXTRA_VALUES.items() if flags.get(flag))]
    if stored:
        raise ValueError(f"{node['type']} has {len(stored)} widget values too many: {stored}.")
    return values
