"""Core's samplers and sampler nodes with Harmony models: given latents stay, interruption is clean."""

from __future__ import annotations

import pytest
import torch

from tools.comfyui.server import ComfyServer
from tools.workflows.shipped import Prompt, api_workflow, captions_of, change, node_of

from .latents import sample

pytestmark = pytest.mark.host

SAMPLERS = ("euler", "heun", "dpmpp_2m", "res_multistep", "uni_pc", "euler_ancestral", "lcm")


@pytest.fixture(scope="module")
def given_audio(server: ComfyServer) -> torch.Tensor:
    """What the example sound is as latents."""
    prompt = api_workflow("audio_to_video")
    given = node_of(prompt, "HarmonyGivenAudio")
    for class_type in ("SamplerCustomAdvanced", "HarmonyDecode", "SaveVideo"):
        del prompt[node_of(prompt, class_type)]
    return probe(server, prompt, given, "given")["audio"]


def probe(server: ComfyServer, prompt: Prompt, node: str, name: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    prompt["probe"] = {"class_type": "HarmonyProbeLatent", "inputs": {"latent": [node, 0], "name": name}}
    run = server.run(prompt)
    assert run.error is None, run.error
    return load((server.base / "output" / f"{name}.safetensors").read_bytes())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampler_keeps_given_sound(server: ComfyServer, given_audio: torch.Tensor, sampler: str) -> None:
    prompt = api_workflow("audio_to_video")
    change(prompt, "KSamplerSelect", sampler_name=sampler)
    out = sample(server, prompt, f"sampler_{sampler}", steps=4)
    torch.testing.assert_close(out["audio"], given_audio, atol=1e-5, rtol=0)
    assert out["video"].isfinite().all()


@pytest.mark.parametrize("class_type", ["KSampler", "KSamplerAdvanced"])
def test_core_sampler_nodes(server: ComfyServer, given_audio: torch.Tensor, class_type: str) -> None:
    prompt = api_workflow("audio_to_video")
    inputs = {
        "model": [node_of(prompt, "HarmonyCheckpointLoader"), 0],
        "positive": [captions_of(prompt), 0],
        "negative": [captions_of(prompt), 0],
        "latent_image": [node_of(prompt, "HarmonyGivenAudio"), 0],
        "steps": 4,
        "cfg": 2.0,
        "sampler_name": "euler",
        "scheduler": "simple",
    }
    inputs |= (
        {"seed": 1, "denoise": 1.0}
        if class_type == "KSampler"
        else {
            "noise_seed": 1,
            "add_noise": "enable",
            "start_at_step": 0,
            "end_at_step": 4,
            "return_with_leftover_noise": "disable",
        }
    )
    for name in ("SamplerCustomAdvanced", "HarmonyDecode", "SaveVideo", "HarmonySyncCFG"):
        del prompt[node_of(prompt, name)]
    prompt["sampler"] = {"class_type": class_type, "inputs": inputs}
    out = probe(server, prompt, "sampler", f"node_{class_type}")
    torch.testing.assert_close(out["audio"], given_audio, atol=1e-5, rtol=0)


def test_core_guider_equals_ours_without_sync(server: ComfyServer) -> None:
    """With both sync scales 1, SyncCFG is text guidance alone."""
    ours = api_workflow("text_to_audio_video")
    encode = captions_of(ours)
    ours["negative"] = {"class_type": "HarmonyTextEncode", "inputs": {**ours[encode]["inputs"], "video_caption": ""}}
    scales = {"video_sync_scale": 1.0, "audio_sync_scale": 1.0, "video_text_scale": 2.0, "audio_text_scale": 2.0}
    change(ours, "HarmonySyncCFG", negative=["negative", 0], **scales)
    core = {key: {**node, "inputs": dict(node["inputs"])} for key, node in ours.items()}
    guider = node_of(core, "HarmonySyncCFG")
    model, positive = core[guider]["inputs"]["model"], core[guider]["inputs"]["positive"]
    core[guider] = {
        "class_type": "CFGGuider",
        "inputs": {"model": model, "positive": positive, "negative": ["negative", 0], "cfg": 2.0},
    }
    expected = sample(server, core, "core_guider", steps=4)
    actual = sample(server, ours, "our_guider", steps=4)
    for name in ("video", "audio"):
        torch.testing.assert_close(actual[name], expected[name], atol=1e-5, rtol=1e-5)


def test_interrupt_then_run(server: ComfyServer) -> None:
    prompt = api_workflow("text_to_audio_video")
    change(prompt, "RandomNoise", noise_seed=99)
    run = server.run(prompt, interrupt_at=3)
    assert run.interrupted
    assert run.error is None
    assert max(value for value, _ in run.progress(node_of(prompt, "SamplerCustomAdvanced"))) < 30
    after = sample(server, api_workflow("text_to_audio_video"), "after_interrupt", steps=4)
    assert after["video"].isfinite().all()
