"""A comparison's own values in graphs of users: where they go, and what is said of a graph that lacks something."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from harmony_core.benchmarks.guidance import WAYS, Way
from tools.comfyui.guided_clips import keep_settings, read_prompts
from tools.comfyui.guided_graph import GuidedGraph
from tools.workflows.shipped import Prompt, api_workflow, change, node_of, nodes_of

LINE = {"prompt": "Rain.", "audio_prompt": "Drops.", "transcript": "It rains.", "seed": 8}
BOTH = Way.of("text 2 + sync 1.5")
BASIC = {"class_type": "BasicGuider", "inputs": {"model": ["1", 0], "conditioning": ["6", 0]}}
CORE = {
    "class_type": "CFGGuider",
    "inputs": {"model": ["1", 0], "positive": ["6", 0], "negative": ["6", 1], "cfg": 4.0},
}
MANUAL = {"class_type": "ManualSigmas", "inputs": {"sigmas": "1, 0"}}


def ltx(**nodes: dict[str, Any]) -> Prompt:
    """Node 8 is the guider, 11 the schedule, 12 the sampler."""
    return api_workflow("ltx2_sync_cfg") | {name.lstrip("n"): node for name, node in nodes.items()}


def test_every_value_of_a_clip_is_set() -> None:
    prompt = ltx()
    change(prompt, "HarmonySyncCFG", skip_layer_scale=2.0, sync_stop=0.5, sync_interval=3)
    before = copy.deepcopy(prompt)
    made = GuidedGraph.of(prompt).clip(LINE, BOTH, steps=9)
    assert made["4"]["inputs"]["text"] == 'Rain. Drops. The words spoken: "It rains."'
    assert made["5"]["inputs"] == prompt["5"]["inputs"]  # the negative stays
    assert made["9"]["inputs"]["noise_seed"] == 8
    assert made["11"]["inputs"]["steps"] == 9
    guider = made["8"]["inputs"]
    assert [guider[f"{stream}_{kind}_scale"] for kind in ("text", "sync") for stream in ("video", "audio")] == [
        2.0,
        2.0,
        1.5,
        1.5,
    ]
    assert (
        guider["isolation_scale"] == guider["skip_layer_scale"] == guider["sync_stop"] == guider["sync_interval"] == 1
    )
    assert prompt == before, "the graph itself was changed"


def test_captions_of_harmony_text_encode_stay_apart() -> None:
    graph = GuidedGraph.of(api_workflow("ovi_text_to_audio_video"))
    text = graph.clip(LINE, Way(), steps=2)[graph.text]["inputs"]
    assert (text["video_caption"], text["audio_caption"], text["transcript"]) == ("Rain.", "Drops.", "It rains.")
    assert text["prompt_format"] == "ovi"


def test_words_are_found_behind_other_nodes() -> None:
    prompt = api_workflow("text_to_audio_video")
    guider = prompt[node_of(prompt, "HarmonySyncCFG")]["inputs"]
    text = guider["positive"][0]
    prompt["voice"] = {
        "class_type": "HarmonyReferenceAudio",
        "inputs": {"conditioning": [text, 0], "audio_vae": ["1", 3]},
    }
    guider["positive"] = ["voice", 0]
    assert GuidedGraph.of(prompt).text == text


def test_all_in_one_sampler_takes_all_but_isolation() -> None:
    graph = GuidedGraph.of(api_workflow("beginner"))
    assert graph.lacks(BOTH) == ""
    assert "no input for the scale of isolated; put Harmony SyncCFG in its place" in graph.lacks(Way.of("isolated 3"))
    inputs = graph.clip(LINE, BOTH, steps=5)[graph.sampler]["inputs"]
    assert (inputs["seed"], inputs["steps"], inputs["video_text_scale"], inputs["audio_sync_scale"]) == (8, 5, 2.0, 1.5)


def test_cores_guider_has_text_alone() -> None:
    graph = GuidedGraph.of(ltx(n8=CORE))
    assert [way.name for way in WAYS if not graph.lacks(way)] == ["none", "text 1.5", "text 3"]
    assert graph.clip(LINE, Way.of("text 3"), steps=5)["8"]["inputs"]["cfg"] == 3.0
    assert graph.clip(LINE, Way(), steps=5)["8"]["inputs"]["cfg"] == 1.0
    assert graph.lacks(Way.of("text 3 2")).endswith("one scale of text for both streams; give one, not 3 and 2.")


def test_the_streams_may_have_scales_of_their_own() -> None:
    graph = GuidedGraph.of(api_workflow("text_to_audio_video"))
    inputs = graph.clip(LINE, Way.of("sync 1.5 3"), steps=5)[graph.guider]["inputs"]
    assert (inputs["video_sync_scale"], inputs["audio_sync_scale"], inputs["video_text_scale"]) == (1.5, 3.0, 1.0)


def test_text_guidance_without_a_negative() -> None:
    prompt = ltx()
    del prompt["8"]["inputs"]["negative"]
    graph = GuidedGraph.of(prompt)
    assert graph.lacks(BOTH) == (
        "node 8 (HarmonySyncCFG) has no negative, which text guidance pushes away from; connect one."
    )
    assert graph.lacks(Way.of("sync 1.5")) == ""


def without_words() -> Prompt:
    prompt = ltx()
    prompt["6"]["inputs"]["positive"] = ["1", 0]
    return prompt


def solver(name: str) -> Prompt:
    prompt = ltx()
    change(prompt, "KSamplerSelect", sampler_name=name)
    return prompt


def unplugged() -> Prompt:
    prompt = ltx()
    del prompt["12"]["inputs"]["noise"]
    return prompt


REFUSED = {
    "given": (
        api_workflow("ltx2_lip_sync"),
        r"node 11 \(HarmonyGivenAudio\) gives the clip a sound or a video.*take it",
    ),
    "core": (
        api_workflow("wan22_video_only"),
        "one SamplerCustomAdvanced or HarmonySampler, but the graph has none",
    ),
    "two": (ltx(n30=ltx()["12"]), r"has node 12 \(SamplerCustomAdvanced\), node 30 \(SamplerCustomAdvanced\)"),
    "guider": (ltx(n8=BASIC), r"node 8 \(BasicGuider\) is a guider whose scales are unknown.*put Harmony SyncCFG"),
    "steps": (
        ltx(n11=MANUAL),
        r"node 11 \(ManualSigmas\), behind sigmas of node 12.*no input steps.*put Basic",
    ),
    "solver": (solver("heun"), r"node 10 \(KSamplerSelect\) is heun, which is not known to ask the model once"),
    "words": (without_words(), r"node 8 \(HarmonySyncCFG\)'s positive must stand in one node .* the graph has none"),
    "noise": (unplugged(), r"noise of node 12 \(SamplerCustomAdvanced\) is not connected; connect RandomNoise"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_a_graph_lacks_is_named_with_the_fix(which: str) -> None:
    prompt, message = REFUSED[which]
    with pytest.raises(ValueError, match=message):
        GuidedGraph.of(prompt)


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}", json.dumps({"nodes": [], "links": []})])
def test_a_file_that_is_no_api_graph(tmp_path: Path, content: str) -> None:
    path = tmp_path / "graph.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"no graph in the API format; save it by Workflow > Export \(API\)"):
        GuidedGraph.read(path)


def test_a_limit_is_spread_over_the_prompts(tmp_path: Path) -> None:
    bench = Path(__file__).parents[2] / "benchmarks" / "harmony_bench.jsonl"
    kinds = [line["output"].split("_")[0] for line in read_prompts(bench, tmp_path / "clips", 24)]
    assert [kinds.count(kind) for kind in ("ambient", "speech", "complex")] == [8, 8, 8]
    assert len(read_prompts(bench, tmp_path / "clips", None)) == 150


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": "b", "seconds": 3}, "line 2 gives seconds, which the graph decides"),
        ({"prompt": "b", "seed": 0}, "lines 1 and 2 both have seed 0"),
        ({"prompt": "b", "output": "../b.mp4"}, "must be a plain file name"),
    ],
)
def test_a_line_that_cannot_be_compared(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "a"}) + "\n" + json.dumps(line) + "\n")
    with pytest.raises(ValueError, match=message):
        read_prompts(path, tmp_path / "clips", None)


def test_clips_of_something_else_are_not_mixed_in(tmp_path: Path) -> None:
    line = {"output": "a.mp4", "prompt": "a", "seed": 0}
    keep_settings(tmp_path, {"1": {}}, [line])
    keep_settings(tmp_path, ltx(), [line])  # nothing was made of the first
    (tmp_path / "made.csv").touch()
    keep_settings(tmp_path, ltx(), [line, {**line, "output": "b.mp4"}])
    with pytest.raises(ValueError, match="of another graph"):
        keep_settings(tmp_path, {"1": {}}, [line])
    with pytest.raises(ValueError, match=r"a\.mp4 is of another line"):
        keep_settings(tmp_path, ltx(), [{**line, "prompt": "another"}])


def test_shipped_graphs_that_are_made_of_words_can_be_compared() -> None:
    for name in (
        "text_to_audio_video",
        "beginner",
        "simplest",
        "low_memory",
        "ovi_text_to_audio_video",
        "ltx2_sync_cfg",
    ):
        graph = GuidedGraph.of(api_workflow(name))
        assert graph.text in nodes_of(graph.prompt, "HarmonyTextEncode") + nodes_of(graph.prompt, "CLIPTextEncode")
        assert graph.lacks(BOTH) == ""
