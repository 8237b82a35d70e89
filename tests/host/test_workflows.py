"""Every shipped workflow: its two formats say the same, it runs, and what was given comes out as it went in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from harmony_core.media import VideoClip, read_audio, read_image
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from tools.comfyui.install import wanted_trees
from tools.comfyui.outputs import read_clip
from tools.comfyui.server import ComfyServer
from tools.workflows import seeds
from tools.workflows.blueprints import BLUEPRINTS, page_blueprint
from tools.workflows.build import SUBGRAPHS, shipped_definitions
from tools.workflows.definitions import NOTES, api_prompt, completed, page_prompt
from tools.workflows.graphs import GRAPHS
from tools.workflows.large import MMAUDIO_FILE
from tools.workflows.layout import page_graph
from tools.workflows.shipped import (
    MEDIA,
    NAMES,
    NEEDS_NEWEST,
    RUNNABLE,
    WORKFLOWS,
    api_workflow,
    captions_of,
    change,
    node_of,
    nodes_of,
    page_workflow,
    weight_files,
)
from tools.workflows.thumbnails import THUMBNAIL
from tools.workflows.uniavgen import MODEL_FILE, VOCODER_FILE

from .checks import check_clip
from .latents import sample

pytestmark = pytest.mark.host

CONVERTED = MMAUDIO_FILE, MODEL_FILE, VOCODER_FILE  # of `harmony convert`, so they have no address
EVERY = [pytest.param(name, marks=[pytest.mark.newest_tree] * (name in NEEDS_NEWEST)) for name in NAMES]


@pytest.fixture(scope="module")
def pipeline() -> HarmonyPipeline:
    return HarmonyPipeline.from_file()


@pytest.mark.parametrize("name", EVERY)
def test_page_and_api_formats_are_the_same(server: ComfyServer, name: str) -> None:
    """What this version's page sends is the shipped prompt, which leaves out what this version added."""
    definitions = server.get("/object_info")
    sent = page_prompt(page_workflow(name), definitions)
    assert completed(api_workflow(name), definitions) == completed(sent, definitions)


@pytest.mark.newest_tree
def test_generated(server: ComfyServer, server_of: Callable[[Path], ComfyServer]) -> None:
    """The files are what `python -m tools.workflows.build` writes."""
    oldest = server_of(wanted_trees()[0])
    definitions = shipped_definitions(oldest.get("/object_info"), server.get("/object_info"))
    assert sorted(GRAPHS) == NAMES
    for name, make in GRAPHS.items():
        prompt = api_prompt(make(), definitions)
        assert prompt == api_workflow(name), f"{name}: run `python -m tools.workflows.build`"
        assert page_graph(name, make(), prompt, definitions) == page_workflow(name)
    assert sorted(BLUEPRINTS) == sorted(path.stem for path in SUBGRAPHS.glob("*.json"))
    for name, blueprint in BLUEPRINTS.items():
        written = json.loads((SUBGRAPHS / f"{name}.json").read_text())
        assert page_blueprint(name, blueprint, definitions) == written, name


@pytest.mark.parametrize("name", EVERY)
def test_only_core_and_this_pack(server: ComfyServer, name: str) -> None:
    info = server.get("/object_info")
    for node in page_workflow(name)["nodes"]:
        if node["type"] not in NOTES:
            module = info[node["type"]]["python_module"]
            assert "Harmony" in module or not module.startswith("custom_nodes"), module


@pytest.mark.parametrize("name", NAMES)
def test_large_files_have_links(name: str) -> None:
    """Each published weight file that a loader names can be had from the page: name, folder and address."""
    listed = {}
    for node in page_workflow(name)["nodes"]:
        for model in node["properties"].get("models", ()):
            listed[model["name"]] = model["directory"]
            assert re.fullmatch(
                r"https://huggingface\.co/[\w.-]+/[\w.-]+/resolve/main/[\w./-]+\.safetensors", model["url"]
            )
    named = weight_files(api_workflow(name))
    assert {file: folder for folder, file in named if file not in CONVERTED} == listed


@pytest.mark.parametrize("name", NAMES)
def test_thumbnail(name: str) -> None:
    with Image.open(WORKFLOWS / f"{name}.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (THUMBNAIL, THUMBNAIL))


@pytest.mark.parametrize("name", NAMES)
def test_opens_readable(name: str) -> None:
    """A page of 1600x950 has 1200x750 for a graph; its frontend draws no text below 8 of 14 pixels."""
    boxes = [group["bounding"] for group in page_workflow(name)["groups"]]
    size = [max(box[axis] + box[2 + axis] for box in boxes) - min(box[axis] for box in boxes) for axis in (0, 1)]
    assert min(1200 / size[0], 750 / size[1]) > 8 / 14, size


def test_seeds() -> None:
    """The best measured one; reroll_sound keeps its picture from run to run, while its second sound is another."""
    measured = json.loads(seeds.FILE.read_text())["measured"]
    best = measured[str(seeds.shipped_seed())]
    assert best["av_align"] == max(each["av_align"] for each in measured.values())
    assert abs(best["lag_ms"]) <= 40  # half a frame
    noises = [node for node in page_workflow("reroll_sound")["nodes"] if node["type"] == "RandomNoise"]
    assert [node["widgets_values"] for node in noises] == [[seeds.shipped_seed(), "fixed"], [2, "randomize"]]


@pytest.mark.parametrize("name", [name for name in RUNNABLE if name != "text_to_audio_video"])
def test_workflow_runs(server: ComfyServer, name: str) -> None:
    prompt = api_workflow(name)
    change(prompt, "BasicScheduler", steps=8)
    change(prompt, "HarmonySampler", steps=8)
    run = server.run(prompt)
    assert run.error is None, run.error
    clips = [server.saved_file(run, key) for key in nodes_of(prompt, "SaveVideo")]
    for clip in clips:
        check_clip(clip, num_frames=25, size=(64, 64), fps=12.5)


def test_rerolled_sound_has_the_same_pictures(server: ComfyServer) -> None:
    """As decoded: core's encoder does not give the same file twice."""
    prompt = api_workflow("reroll_sound")
    change(prompt, "BasicScheduler", steps=8)
    for index, key in enumerate(nodes_of(prompt, "HarmonyDecode")):
        inputs = {"images": [key, 0], "filename_prefix": f"reroll{index}"}
        prompt[f"frames{index}"] = {"class_type": "SaveImage", "inputs": inputs}
    run = server.run(prompt)
    assert run.error is None, run.error
    first, second = ([server.view(image) for image in run.outputs[f"frames{i}"]["images"]] for i in range(2))
    assert len(first) == 25
    assert [pixels(each) for each in first] == [pixels(each) for each in second]
    sound, other_sound = (read_clip(server.saved_file(run, key))[1] for key in nodes_of(prompt, "SaveVideo"))
    assert not np.allclose(sound, other_sound, atol=1e-2)


def pixels(file: bytes) -> bytes:
    """Of a saved picture, without the prompt that is stored beside them."""
    return Image.open(BytesIO(file)).tobytes()


def test_given_first_frame(server: ComfyServer, pipeline: HarmonyPipeline) -> None:
    image = read_image(MEDIA / "harmony_example.png")
    ours, theirs = both(server, pipeline, "image_to_audio_video", image=image)
    assert torch.equal(ours["video"][:, :, 0], theirs.latents_video[:, :, 0])
    assert_close(ours, theirs)


def test_given_audio(server: ComfyServer, pipeline: HarmonyPipeline) -> None:
    ours, theirs = both(server, pipeline, "audio_to_video", audio=read_audio(MEDIA / "harmony_example.wav"))
    assert torch.equal(ours["audio"], theirs.latents_audio)
    assert_close(ours, theirs)


def test_given_video(server: ComfyServer, pipeline: HarmonyPipeline) -> None:
    with av.open(str(MEDIA / "harmony_example.mp4")) as file:  # as core reads it: other rounding than ours
        pictures = [frame.to_ndarray(format="gbrpf32le") for frame in file.decode(video=0)]
    frames = (np.stack(pictures) * 255).round().clip(0, 255).astype(np.uint8)
    ours, theirs = both(server, pipeline, "video_to_audio", video=VideoClip(frames, Fraction("12.5")))
    assert torch.equal(ours["video"], theirs.latents_video)
    assert_close(ours, theirs)


def test_reference_voice(server: ComfyServer, pipeline: HarmonyPipeline) -> None:
    reference = read_audio(MEDIA / "harmony_example.wav")
    ours, theirs = both(server, pipeline, "voice_clone", reference_audio=reference)
    assert_close(ours, theirs)


def both(server: ComfyServer, pipeline: HarmonyPipeline, name: str, **given):
    """Latents of a workflow and of the same request on the command line's pipeline."""
    prompt = api_workflow(name)
    text = prompt[captions_of(prompt)]["inputs"]
    guidance = prompt[node_of(prompt, "HarmonySyncCFG")]["inputs"]
    request = GenerateRequest(
        prompt=text["video_caption"],
        audio_prompt=text["audio_caption"],
        transcript=text["transcript"],
        seed=prompt[node_of(prompt, "RandomNoise")]["inputs"]["noise_seed"],
        steps=6,
        seconds=2,
        video_sync_scale=guidance["video_sync_scale"],
        audio_sync_scale=guidance["audio_sync_scale"],
        **given,
    )
    return sample(server, prompt, name), pipeline(request)


def assert_close(ours, theirs) -> None:
    torch.testing.assert_close(ours["video"], theirs.latents_video, atol=1e-3, rtol=0)
    torch.testing.assert_close(ours["audio"], theirs.latents_audio, atol=1e-3, rtol=0)
