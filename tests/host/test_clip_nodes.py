"""The nodes that lay out, fill and decode a clip, executed by a server; and with core's own autoencoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tools.comfyui.server import ComfyServer, Run
from tools.workflows.shipped import Prompt, api_workflow, change, node_of, nodes_of

from .checks import check_clip
from .latents import sample
from .test_inside import run_script

pytestmark = pytest.mark.host


def test_core_autoencoders(comfy_tree: Path, tmp_path: Path) -> None:
    run_script(comfy_tree, "clip_pairs", tmp_path)


def probe(server: ComfyServer, prompt: Prompt, name: str, key: str) -> dict[str, torch.Tensor]:
    """Both streams of a node's latent, without sampling."""
    kept = {
        "HarmonyCheckpointLoader",
        "HarmonyClip",
        "HarmonyFirstFrame",
        "HarmonyGivenAudio",
        "LoadImage",
        "LoadAudio",
    }
    graph = {key: node for key, node in prompt.items() if node["class_type"] in kept}
    graph["probe"] = {"class_type": "HarmonyProbeLatent", "inputs": {"latent": [key, 0], "name": name}}
    succeed(server, graph)
    return load_file(server.base / "output" / f"{name}.safetensors")


def succeed(server: ComfyServer, prompt: Prompt) -> Run:
    run = server.run(prompt)
    assert run.error is None, run.error
    return run


def test_first_frame_node_does_what_the_clip_does(server: ComfyServer) -> None:
    prompt = api_workflow("image_to_audio_video")
    clip, image, loader = (node_of(prompt, name) for name in ("HarmonyClip", "LoadImage", "HarmonyCheckpointLoader"))
    expected = probe(server, prompt, "with_first_frame", clip)
    del prompt[clip]["inputs"]["first_frame"]
    empty = probe(server, prompt, "without_first_frame", clip)
    prompt["first"] = {
        "class_type": "HarmonyFirstFrame",
        "inputs": {"latent": [clip, 0], "vae": [loader, 2], "image": [image, 0]},
    }
    actual = probe(server, prompt, "first_frame_node", "first")
    assert torch.equal(actual["video"], expected["video"])
    assert not torch.equal(empty["video"], expected["video"])


def test_a_span_of_sound_is_kept_and_the_rest_made(server: ComfyServer) -> None:
    prompt = api_workflow("audio_to_video")
    given = probe(server, prompt, "whole_sound", node_of(prompt, "HarmonyGivenAudio"))["audio"]
    change(prompt, "HarmonyGivenAudio", start_seconds=0.4, end_seconds=1.2)
    made = sample(server, prompt, "partial_sound", steps=2)["audio"]
    inside = slice(10, 30)  # 25 latents a second
    torch.testing.assert_close(made[:, :, inside], given[:, :, inside], atol=1e-5, rtol=0)
    for outside in (slice(0, 10), slice(30, None)):
        assert not torch.allclose(made[:, :, outside], given[:, :, outside], atol=1e-2)


def test_batch_and_chunks(server: ComfyServer) -> None:
    """Two clips of an odd length come out as two files, decoded in pieces."""
    prompt = api_workflow("text_to_audio_video")
    change(prompt, "HarmonyClip", batch_size=2, seconds=1.2)
    change(prompt, "BasicScheduler", steps=6)
    change(prompt, "HarmonyDecode", chunk_seconds=0.5)
    (save,) = nodes_of(prompt, "SaveVideo")
    files = succeed(server, prompt).outputs[save]["images"]
    assert len(files) == 2
    clips = [server.view(file) for file in files]
    assert clips[0] != clips[1]
    for clip in clips:
        check_clip(clip, num_frames=15, size=(64, 64), fps=12.5)


def test_sync_report(server: ComfyServer) -> None:
    """The shipped workflow's clip is in sync, and its lag says so."""
    prompt = api_workflow("text_to_audio_video")
    video = prompt[node_of(prompt, "SaveVideo")]["inputs"]["video"]
    prompt["report"] = {"class_type": "HarmonySyncReport", "inputs": {"video": video}}
    for index, name in enumerate(("lag", "score")):
        prompt[name] = {"class_type": "PreviewAny", "inputs": {"source": ["report", index]}}
    outputs = succeed(server, prompt).outputs
    (plot,) = outputs["report"]["images"]
    assert server.view(plot)[1:4] == b"PNG"
    assert abs(float(outputs["lag"]["text"][0])) <= 80  # a frame
    assert 0 < float(outputs["score"]["text"][0]) <= 1


def test_sync_report_of_a_silent_film(server: ComfyServer) -> None:
    error = server.run(
        {
            "film": {"class_type": "LoadVideo", "inputs": {"file": "harmony_example.mp4"}},
            "report": {"class_type": "HarmonySyncReport", "inputs": {"video": ["film", 0]}},
        }
    ).error
    assert "has no sound to measure" in error["exception_message"]


def test_captions_in_two_places_are_refused(server: ComfyServer) -> None:
    prompt = api_workflow("text_to_audio_video")
    change(prompt, "HarmonyTextEncode", prompt_format="ovi", video_caption="he says <S>go<E>", transcript="home")
    error = server.run(prompt).error
    assert error is not None
    assert "give it in one place only" in error["exception_message"]
