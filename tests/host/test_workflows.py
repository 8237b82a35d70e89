"""Every shipped workflow: its two formats say the same, it runs, and what was given comes out as it went in."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from harmony_core.media import VideoClip, read_audio, read_image
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline

from .build_workflows import api_graph, page_graph
from .checks import check_clip, read_clip, saved_file
from .comfyui import ComfyServer
from .graph import NOTES, to_api
from .thumbnails import THUMBNAIL
from .workflow_graphs import GRAPHS
from .workflows import (
    MEDIA,
    NAMES,
    RUNNABLE,
    WORKFLOWS,
    api_workflow,
    captions_of,
    change,
    node_of,
    nodes_of,
    page_workflow,
    sample,
)

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def pipeline() -> HarmonyPipeline:
    return HarmonyPipeline.from_file()


@pytest.mark.parametrize("name", NAMES)
def test_page_and_api_formats_are_the_same(server: ComfyServer, name: str) -> None:
    api = {key: {"class_type": n["class_type"], "inputs": n["inputs"]} for key, n in api_workflow(name).items()}
    assert to_api(page_workflow(name), server.get("/object_info")) == api


def test_generated(server: ComfyServer) -> None:
    """The files are what `python -m tests.host.build_workflows` writes."""
    info = server.get("/object_info")
    assert sorted(GRAPHS) == NAMES
    for name, make in GRAPHS.items():
        prompt = api_graph(make(), info)
        assert prompt == api_workflow(name), f"{name}: run `python -m tests.host.build_workflows`"
        assert page_graph(name, make(), prompt, info) == page_workflow(name)


@pytest.mark.parametrize("name", NAMES)
def test_only_core_and_this_pack(server: ComfyServer, name: str) -> None:
    info = server.get("/object_info")
    for node in page_workflow(name)["nodes"]:
        if node["type"] not in NOTES:
            module = info[node["type"]]["python_module"]
            assert "Harmony" in module or not module.startswith("custom_nodes"), module


@pytest.mark.parametrize("name", NAMES)
def test_thumbnail(name: str) -> None:
    with Image.open(WORKFLOWS / f"{name}.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (THUMBNAIL, THUMBNAIL))


@pytest.mark.parametrize("name", [name for name in RUNNABLE if name != "text_to_audio_video"])
def test_workflow_runs(server: ComfyServer, name: str) -> None:
    prompt = api_workflow(name)
    change(prompt, "BasicScheduler", steps=8)
    change(prompt, "HarmonySampler", steps=8)
    run = server.run(prompt)
    assert run.error is None, run.error
    clips = [saved_file(server, run, key) for key in nodes_of(prompt, "SaveVideo")]
    for clip in clips:
        check_clip(clip, num_frames=25, size=(64, 64), fps=12.5)
    if name == "reroll_sound":
        (first, sound, *_), (second, other_sound, *_) = (read_clip(clip) for clip in clips)
        assert np.array_equal(first, second)
        assert not np.allclose(sound, other_sound, atol=1e-2)


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
