"""HarmonySampler: the same clip as core's nodes make one by one."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load

from tools.comfyui.server import ComfyServer, Run
from tools.workflows.shipped import Prompt, api_workflow, captions_of, node_of

pytestmark = pytest.mark.host

STEPS, SHIFT, SEED = 5, 4.5, 7
EXPLICIT = ("SamplerCustomAdvanced", "HarmonySyncCFG", "RandomNoise", "KSamplerSelect", "BasicScheduler")
SCALES = {"video_sync_scale": 2.5, "audio_sync_scale": 1.4, "video_text_scale": 1.6, "audio_text_scale": 1.2}


def prompt_of(workflow: str) -> tuple[Prompt, dict[str, list]]:
    """A workflow without its output nodes, with an empty negative; what its sampler and its guider are connected to."""
    prompt = api_workflow(workflow)
    for class_type in ("HarmonyDecode", "SaveVideo"):
        del prompt[node_of(prompt, class_type)]
    encode = prompt[captions_of(prompt)]["inputs"]
    prompt["negative"] = {"class_type": "HarmonyTextEncode", "inputs": {**encode, "video_caption": ""}}
    guider = prompt[node_of(prompt, "HarmonySyncCFG")]["inputs"]
    links = {name: guider[name] for name in ("model", "positive", "anchors")}
    links["latent"] = prompt[node_of(prompt, "SamplerCustomAdvanced")]["inputs"]["latent_image"]
    return prompt, links | {"negative": ["negative", 0]}


def explicit(workflow: str) -> tuple[Prompt, str]:
    prompt, links = prompt_of(workflow)
    prompt["shift"] = {"class_type": "ModelSamplingSD3", "inputs": {"model": links["model"], "shift": SHIFT}}
    inputs = {name: prompt[node_of(prompt, name)]["inputs"] for name in EXPLICIT}
    inputs["BasicScheduler"] |= {"model": ["shift", 0], "steps": STEPS}
    inputs["RandomNoise"] |= {"noise_seed": SEED}
    inputs["HarmonySyncCFG"] |= {"model": ["shift", 0], "negative": links["negative"], **SCALES}
    return prompt, node_of(prompt, "SamplerCustomAdvanced")


def all_in_one(workflow: str, **changes) -> tuple[Prompt, str]:
    prompt, links = prompt_of(workflow)
    for class_type in EXPLICIT:
        del prompt[node_of(prompt, class_type)]
    inputs = links | SCALES | {"seed": SEED, "steps": STEPS, "shift": SHIFT} | changes
    prompt["sampler"] = {
        "class_type": "HarmonySampler",
        "inputs": {name: value for name, value in inputs.items() if value is not None},
    }
    return prompt, "sampler"


def run(server: ComfyServer, prompt: Prompt, node: str, name: str, **options) -> Run:
    prompt["probe"] = {"class_type": "HarmonyProbeLatent", "inputs": {"latent": [node, 0], "name": name}}
    return server.run(prompt, **options)


def result(server: ComfyServer, name: str) -> dict[str, torch.Tensor]:
    return load((server.base / "output" / f"{name}.safetensors").read_bytes())


@pytest.mark.parametrize("workflow", ["text_to_audio_video", "audio_to_video"])
def test_same_as_the_nodes_one_by_one(server: ComfyServer, workflow: str) -> None:
    runs = {}
    for name, (prompt, node) in {"explicit": explicit(workflow), "ours": all_in_one(workflow)}.items():
        runs[name] = run(server, prompt, node, name)
        assert runs[name].error is None, runs[name].error
        assert runs[name].progress(node)[-1] == (STEPS, STEPS)
    for modality, expected in result(server, "explicit").items():
        torch.testing.assert_close(result(server, "ours")[modality], expected, atol=1e-6, rtol=0)
    assert runs["ours"].num_previews == STEPS  # the other nodes were answered from the cache and show nothing


def test_interrupt_then_run(server: ComfyServer) -> None:
    interrupted = run(server, *all_in_one("text_to_audio_video", steps=40, seed=99), "never", interrupt_at=3)
    assert interrupted.interrupted
    assert not (server.base / "output" / "never.safetensors").exists()
    after = run(server, *all_in_one("text_to_audio_video", seed=99), "after")
    assert after.error is None, after.error
    assert all(part.isfinite().all() for part in result(server, "after").values())


def test_text_scale_without_a_negative(server: ComfyServer) -> None:
    failed = run(server, *all_in_one("text_to_audio_video", negative=None), "never")
    assert "Text scales of 1.6 and 1.2 need a negative" in failed.error["exception_message"]


def test_latent_of_one_modality(server: ComfyServer) -> None:
    prompt, node = all_in_one("text_to_audio_video")
    prompt["plain"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    prompt[node]["inputs"]["latent"] = ["plain", 0]
    assert "make it with HarmonyClip" in run(server, prompt, node, "never").error["exception_message"]


def test_defaults_are_the_built_in_models(server: ComfyServer) -> None:
    from harmony_core.checkpoints.bundle import embedded_checkpoints, read_settings

    settings = read_settings(embedded_checkpoints()["harmony-tiny"])[0]["transformer"]
    inputs = server.get("/object_info/HarmonySampler")["HarmonySampler"]["input"]["required"]
    for name in ("steps", *SCALES):
        assert inputs[name][1]["default"] == settings[name]
    assert inputs["shift"][1]["default"] == 0  # the model's own
