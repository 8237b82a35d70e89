"""The shipped text-to-audio-video workflow on a real ComfyUI."""

from __future__ import annotations

import pytest
import torch

from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.toyworld.measures.impacts import impact_scores
from tools.comfyui.outputs import read_clip
from tools.comfyui.server import ComfyServer
from tools.workflows.shipped import api_workflow, captions_of, change, node_of

from .checks import check_clip
from .latents import sample

pytestmark = pytest.mark.host

NAME = "text_to_audio_video"


def latents(server: ComfyServer, name: str, seed: int) -> dict[str, torch.Tensor]:
    prompt = api_workflow(NAME)
    change(prompt, "RandomNoise", noise_seed=seed)
    return sample(server, prompt, name)


def test_workflow_makes_a_clip_with_sound(server: ComfyServer) -> None:
    prompt = api_workflow(NAME)
    run = server.run(prompt)
    assert run.error is None, run.error
    steps = prompt[node_of(prompt, "BasicScheduler")]["inputs"]["steps"]
    sampler = node_of(prompt, "SamplerCustomAdvanced")
    assert run.progress(sampler) == [(step, steps) for step in range(1, steps + 1)]
    assert run.num_previews >= steps
    clip = server.saved_file(run, node_of(prompt, "SaveVideo"))
    check_clip(clip, num_frames=25, size=(64, 64), fps=12.5)
    frames, samples, fps, sample_rate = read_clip(clip)
    assert impact_scores(frames, samples, fps, sample_rate)["within_one_frame"] > 0.8  # other clips' sounds: about 0.3


def test_one_seed_gives_the_same_bytes_twice(server: ComfyServer) -> None:
    first = latents(server, "first", seed=7)
    other = latents(server, "other", seed=8)  # also pushes the first out of ComfyUI's cache
    again = latents(server, "again", seed=7)
    for name in ("video", "audio"):
        assert torch.equal(first[name], again[name])
        assert not torch.allclose(first[name], other[name], atol=0.1)


def test_command_line_agrees(server: ComfyServer) -> None:
    scales = {"video_sync_scale": 2.5, "audio_sync_scale": 1.75}
    prompt = api_workflow(NAME)
    prompt[captions_of(prompt)]["inputs"] |= {
        "video_caption": "a red ball bounces on wood",
        "audio_caption": "a ball hits wood",
    }
    change(prompt, "HarmonySyncCFG", **scales)
    change(prompt, "RandomNoise", noise_seed=11)
    ours = sample(server, prompt, "agree")
    request = GenerateRequest(
        prompt="a red ball bounces on wood", audio_prompt="a ball hits wood", seed=11, steps=6, seconds=2, **scales
    )
    theirs = HarmonyPipeline.from_file()(request)
    torch.testing.assert_close(ours["video"], theirs.latents_video, atol=1e-3, rtol=0)
    torch.testing.assert_close(ours["audio"], theirs.latents_audio, atol=1e-3, rtol=0)
