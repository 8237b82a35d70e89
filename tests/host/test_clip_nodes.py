"""The nodes that lay out, fill and decode a clip, executed by a server; and with core's own autoencoders."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harmony_core.media import write_video
from tools.comfyui.outputs import read_clip
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
    (numbers,) = outputs["report"]["harmony_sync"]  # what a program reads in /history
    assert f"{numbers['lag_ms']:.3f}" == f"{float(outputs['lag']['text'][0]):.3f}"
    assert f"{numbers['av_align']:.3f}" == f"{float(outputs['score']['text'][0]):.3f}"
    assert 0 <= numbers["lag_confidence"] <= 1
    assert "AV-Align" in outputs["report"]["text"][0]


def test_sync_report_of_a_silent_film(server: ComfyServer) -> None:
    error = server.run(
        {
            "film": {"class_type": "LoadVideo", "inputs": {"file": "harmony_example.mp4"}},
            "report": {"class_type": "HarmonySyncReport", "inputs": {"video": ["film", 0]}},
        }
    ).error
    assert "has no sound to measure" in error["exception_message"]


def film_file(server: ComfyServer, name: str, samples: np.ndarray | None = None) -> np.ndarray:
    """A film of 30 fps in the server's input folder; its frames, each of one grey."""
    frames = np.stack([np.full((72, 96, 3), 40 + 2 * index, np.uint8) for index in range(75)])
    write_video(server.base / "input" / name, frames, Fraction(30), samples, 48000)
    return frames


def test_a_given_film_is_saved_as_it_was(server: ComfyServer) -> None:
    """Its own size and rate, cut to the two seconds that were asked for; what the model has of it is a choice."""
    frames = film_file(server, "wide.mp4")
    prompt = api_workflow("video_to_audio")
    change(prompt, "LoadVideo", file="wide.mp4")
    change(prompt, "BasicScheduler", steps=2)
    (save,) = nodes_of(prompt, "SaveVideo")
    saved, samples, rate, sample_rate = read_clip(server.view(succeed(server, prompt).outputs[save]["images"][0]))
    assert (saved.shape, rate) == ((60, 72, 96, 3), 30)
    np.testing.assert_allclose(saved.mean((1, 2, 3)), frames[:60].mean((1, 2, 3)), atol=3)
    assert 0 <= len(samples) / sample_rate - 2 < 1024 / 16000  # whole packets
    change(prompt, "HarmonyDecode", given="model")
    saved, _, rate, _ = read_clip(server.view(succeed(server, prompt).outputs[save]["images"][0]))
    assert (saved.shape, rate) == ((25, 64, 64, 3), 12.5)


def test_a_given_sound_is_saved_as_it_was(server: ComfyServer) -> None:
    tone = np.stack([np.sin(np.arange(120000) * step) * 0.4 for step in (0.02, 0.05)]).astype(np.float32)
    film_file(server, "stereo.mp4", tone)
    prompt = api_workflow("audio_to_video")
    (given,) = nodes_of(prompt, "HarmonyGivenAudio")
    prompt["film"] = {"class_type": "LoadVideo", "inputs": {"file": "stereo.mp4"}}
    prompt["parts"] = {"class_type": "GetVideoComponents", "inputs": {"video": ["film", 0]}}
    prompt[given]["inputs"]["audio"] = ["parts", 1]
    change(prompt, "BasicScheduler", steps=2)
    (save,) = nodes_of(prompt, "SaveVideo")
    saved, samples, rate, sample_rate = read_clip(server.view(succeed(server, prompt).outputs[save]["images"][0]))
    assert (saved.shape, rate, sample_rate) == ((25, 64, 64, 3), 12.5, 48000)
    mixed = tone.mean(0)[4000:90000]
    error = samples[4000:90000] - mixed
    assert 10 * np.log10((mixed**2).mean() / (error**2).mean()) > 15  # through the file's own compression


def test_what_holds_nothing_is_refused(server: ComfyServer) -> None:
    """The sound of a film without any, and the video of a latent without any."""
    film_file(server, "mute.mp4")
    sources = {
        "film": {"class_type": "LoadVideo", "inputs": {"file": "mute.mp4"}},
        "parts": {"class_type": "GetVideoComponents", "inputs": {"video": ["film", 0]}},
    }
    for name, node in (("audio_to_video", "HarmonyGivenAudio"), ("voice_clone", "HarmonyReferenceAudio")):
        prompt = api_workflow(name) | sources
        change(prompt, node, audio=["parts", 1])
        refused(server, prompt, "There is no sound in what is connected to the audio input")
    prompt = api_workflow("video_to_audio")
    (given,) = nodes_of(prompt, "HarmonyGivenVideo")
    del prompt[given]["inputs"]["video"]
    refused(server, prompt, "The latent has no video to keep, it is still empty")


def test_a_trimmed_latent_is_refused(server: ComfyServer) -> None:
    prompt = api_workflow("text_to_audio_video")
    change(prompt, "BasicScheduler", steps=1)
    decode = node_of(prompt, "HarmonyDecode")
    inputs = {"samples": prompt[decode]["inputs"]["latent"], "trim_amount": 1}
    prompt["trim"] = {"class_type": "TrimVideoLatent", "inputs": inputs}
    prompt[decode]["inputs"]["latent"] = ["trim", 0]
    refused(server, prompt, "The latent holds 1.68 s of video and 1.96 s of sound (6 and 49 latents), but Harmony Clip")


def refused(server: ComfyServer, prompt: Prompt, reason: str) -> None:
    error = server.run(prompt).error
    assert error is not None
    assert error["exception_type"] == "ValueError"
    assert error["exception_message"].startswith(reason), error["exception_message"]


def test_captions_in_two_places_are_refused(server: ComfyServer) -> None:
    prompt = api_workflow("text_to_audio_video")
    change(prompt, "HarmonyTextEncode", prompt_format="ovi", video_caption="he says <S>go<E>", transcript="home")
    error = server.run(prompt).error
    assert error is not None
    assert "give it in one place only" in error["exception_message"]
