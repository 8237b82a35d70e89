"""Node definitions of old and new servers, read as the page reads them."""

from __future__ import annotations

import pytest

from tools.workflows.definitions import api_prompt, completed, page_prompt, sockets
from tools.workflows.graph import CLIP, Node, Out

CODEC = ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "auto", "inputs": {}}, {"key": "h264", "inputs": {}}]}]
CRF = ["FLOAT", {"default": 23.0}]
FORMATS = [
    {"key": "auto", "inputs": {"required": {"codec": CODEC}}},
    {"key": "mp4", "inputs": {"required": {"codec": CODEC}, "optional": {"crf": CRF}}},
]
NEW = {
    "input": {
        "required": {"video": ["VIDEO", {}], "format": ["COMFY_DYNAMICCOMBO_V3", {"options": FORMATS}]},
        "optional": {"codec": CODEC},
    },
    "output_name": ["video"],
    "display_name": "Save",
}
OLD = {
    "input": {
        "required": {"video": ["VIDEO", {}], "format": [["auto", "mp4"]], "codec": ["COMBO", {"options": ["auto"]}]}
    },
    "output_name": [],
    "display_name": "Save",
}
LOAD = {
    "input": {"required": {"rate": ["FLOAT,INT", {"default": 25.0, "widgetType": "FLOAT"}], "x": ["FLOAT,INT", {}]}},
    "output_name": ["VIDEO"],
    "display_name": "Load",
}
SAVE = {"class_type": "Save", "inputs": {"video": ["1", 0], "format": "auto", "codec": "auto"}}


def names(definition: dict, values: dict) -> list[str]:
    return [socket.name for socket in sockets(definition["input"], values)]


def test_a_choice_brings_its_inputs() -> None:
    assert names(NEW, {}) == ["video", "format", "format.codec", "codec"]
    assert names(NEW, {"format": "mp4"}) == ["video", "format", "format.codec", "format.crf", "codec"]
    assert names(OLD, {}) == ["video", "format", "codec"]


def test_of_several_types_one_may_be_the_widgets() -> None:
    rate, x = sockets(LOAD["input"], {})
    assert (rate.is_widget, rate.default) == (True, 25.0)
    assert not x.is_widget


def test_an_old_prompt_is_completed_for_a_new_server() -> None:
    inputs = completed({"2": SAVE}, {"Save": NEW})["2"]["inputs"]
    assert inputs == {"video": ["1", 0], "format": "auto", "codec": "auto", "format.codec": "auto"}
    assert completed({"2": SAVE}, {"Save": OLD})["2"] == SAVE


def test_a_page_is_read_by_position() -> None:
    node = {"id": 2, "type": "Save", "widgets_values": ["mp4", "h264"], "inputs": [{"name": "video", "link": 7}]}
    page = {"links": [[7, 1, 0, 2, 0, "VIDEO"]], "nodes": [node]}
    wanted = {"video": ["1", 0], "format": "mp4", "format.codec": "h264", "format.crf": 23.0, "codec": "auto"}
    assert page_prompt(page, {"Save": NEW})["2"]["inputs"] == wanted
    node["widgets_values"] = ["auto", "auto", "auto"]
    with pytest.raises(ValueError, match="Save has 1 widget values too many: \\['auto'\\]"):
        page_prompt(page, {"Save": OLD})


def test_a_graph_becomes_a_prompt() -> None:
    graph = {"load": Node("Load", CLIP, {"x": 3}), "save": Node("Save", CLIP, {"video": Out("load", "VIDEO")})}
    prompt = api_prompt(graph, {"Load": LOAD, "Save": OLD})
    assert prompt["1"]["inputs"] == {"rate": 25.0, "x": 3}
    assert {key: prompt["2"][key] for key in SAVE} == SAVE


@pytest.mark.parametrize(
    ("inputs", "message"),
    [({}, "save: Save needs 'video'"), ({"video": 1, "speed": 2}, "save: Save has no input speed")],
)
def test_a_graph_that_does_not_fit_is_refused(inputs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        api_prompt({"save": Node("Save", CLIP, inputs)}, {"Save": OLD})
