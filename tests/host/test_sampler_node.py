"""HarmonySampler: the same clip as core's nodes make one by one."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load

from tools.comfyui.server import ComfyServer, Run
from tools.workflows.shipped import BUILT_IN, Prompt, api_workflow, captions_of, node_of

from .checks import check_clip

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
    """An empty prompt stands in where the positive says what that is; core's text encoder does not."""
    without, with_empty = (all_in_one("text_to_audio_video") for _ in range(2))
    del without[0]["sampler"]["inputs"]["negative"]
    with_empty[0]["negative"]["inputs"] |= {"video_caption": "", "audio_caption": ""}
    for name, (prompt, node) in {"without": without, "with_empty": with_empty}.items():
        done = run(server, prompt, node, name)
        assert done.error is None, done.error
    for modality, expected in result(server, "with_empty").items():
        torch.testing.assert_close(result(server, "without")[modality], expected, atol=1e-6, rtol=0)
    prompt, node = all_in_one("text_to_audio_video", negative=None)
    clip = prompt[captions_of(prompt)]["inputs"]["clip"]
    prompt["core_text"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": clip, "text": "a ball"}}
    prompt[node]["inputs"]["positive"] = ["core_text", 0]
    failed = run(server, prompt, node, "never")
    assert "Text scales of 1.6 and 1.2 need a negative" in failed.error["exception_message"]


def test_four_nodes(server: ComfyServer) -> None:
    """Loader, text, sampler, save, with every default: the clip that Harmony Clip and Decode make of the same."""
    load = {"class_type": "HarmonyCheckpointLoader", "inputs": {"checkpoint": BUILT_IN}}
    text = {"clip": ["load", 1], "video_caption": "a red ball bounces on wood", "audio_caption": "a ball hits wood"}
    info = server.get("/object_info/HarmonySampler")["HarmonySampler"]
    defaults = {
        name: rest[0]["default"] for name, (_, *rest) in info["input"]["required"].items() if "default" in rest[0]
    }
    few = {"model": ["load", 0], "positive": ["text", 0], "vae": ["load", 2], "audio_vae": ["load", 3], **defaults}
    few["steps"] = STEPS
    save = {"filename_prefix": "four", "format": "auto", "codec": "auto"}
    prompt = {
        "load": load,
        "text": {"class_type": "HarmonyTextEncode", "inputs": text},
        "sampler": {"class_type": "HarmonySampler", "inputs": few},
        "save": {"class_type": "SaveVideo", "inputs": {"video": ["sampler", 1], **save}},
    }
    done = run(server, prompt, "sampler", "four")
    assert done.error is None, done.error
    check_clip(server.saved_file(done, "save"), num_frames=25, size=(64, 64), fps=12.5)
    clip = {"vae": ["load", 2], "audio_vae": ["load", 3], "seconds": 0.0, "fps": 0.0, "width": 0, "height": 0}
    prompt["clip"] = {"class_type": "HarmonyClip", "inputs": clip}
    prompt["negative"] = {
        "class_type": "HarmonyTextEncode",
        "inputs": {**text, "video_caption": "", "audio_caption": ""},
    }
    laid_out = {"latent": ["clip", 0], "anchors": ["clip", 1], "negative": ["negative", 0]}
    prompt["sampler"]["inputs"] = few | laid_out
    del prompt["save"]
    assert run(server, prompt, "sampler", "all").error is None
    for modality, expected in result(server, "all").items():
        torch.testing.assert_close(result(server, "four")[modality], expected, atol=1e-6, rtol=0)


def test_what_is_missing_is_named(server: ComfyServer) -> None:
    prompt, node = all_in_one("text_to_audio_video", latent=None, anchors=None)
    said = run(server, prompt, node, "never").error["exception_message"]
    assert said.startswith("Without latent and anchors the sampler makes them itself and needs vae and audio_vae")
    prompt, node = all_in_one("text_to_audio_video")
    save = {"video": [node, 1], "filename_prefix": "never", "format": "auto", "codec": "auto"}
    prompt["save"] = {"class_type": "SaveVideo", "inputs": save}
    said = run(server, prompt, node, "video").error["exception_message"]
    assert "The video output of Harmony Sampler needs both autoencoders" in said


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
