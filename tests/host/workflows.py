"""The shipped workflows, as tests change and run them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from .comfyui import REPOSITORY, ComfyServer

WORKFLOWS = REPOSITORY / "workflows"
MEDIA = WORKFLOWS / "media"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
BUILT_IN = "harmony-tiny (built in)"

# A workflow may name weight files that a user has to bring; empty ones make their names known to the server.
MODEL_FOLDERS = {
    "model_name": "diffusion_models",
    "audio_name": "diffusion_models",
    "vae_name": "vae",
    "clip_name": "text_encoders",
    "text_encoder": "text_encoders",
    "ckpt_name": "checkpoints",
}

Prompt = dict[str, Any]


def page_workflow(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / f"{name}.json").read_text())


def api_workflow(name: str) -> Prompt:
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())


def needs_no_download(name: str) -> bool:
    """Whether a workflow uses the built-in model."""
    return any(node["inputs"].get("checkpoint") == BUILT_IN for node in api_workflow(name).values())


RUNNABLE = [name for name in NAMES if needs_no_download(name)]


def nodes_of(prompt: Prompt, class_type: str) -> list[str]:
    """Ids of the nodes of a type."""
    return [key for key, node in prompt.items() if node["class_type"] == class_type]


def node_of(prompt: Prompt, class_type: str) -> str:
    """Id of the only node of a type."""
    (found,) = nodes_of(prompt, class_type)
    return found


def captions_of(prompt: Prompt) -> str:
    """Id of the node that encodes what the clip shows; the other one encodes no text."""
    (found,) = (key for key in nodes_of(prompt, "HarmonyTextEncode") if prompt[key]["inputs"]["video_caption"])
    return found


def change(prompt: Prompt, class_type: str, **inputs: Any) -> None:
    """Set inputs of every node of a type."""
    for key in nodes_of(prompt, class_type):
        prompt[key]["inputs"] |= inputs


def touch_weights(models: Path, prompt: Prompt) -> None:
    """Empty files under the names that a workflow's loaders ask for."""
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if name in MODEL_FOLDERS and str(value).endswith(".safetensors"):
                path = models / MODEL_FOLDERS[name] / value
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()


def sample(server: ComfyServer, prompt: Prompt, name: str, steps: int = 6) -> dict[str, torch.Tensor]:
    """Sampled latents `video` and `audio` of a one-sampler workflow; nothing is decoded or saved."""
    sampler = node_of(prompt, "SamplerCustomAdvanced")
    for class_type in ("HarmonyDecode", "SaveVideo"):
        for key in nodes_of(prompt, class_type):
            del prompt[key]
    change(prompt, "BasicScheduler", steps=steps)
    prompt["probe"] = {"class_type": "HarmonyProbeLatent", "inputs": {"latent": [sampler, 0], "name": name}}
    run = server.run(prompt)
    assert run.error is None, run.error
    assert run.progress(sampler)[-1:] == [(steps, steps)], "sampling was answered from ComfyUI's cache"
    return load(Path(server.base / "output" / f"{name}.safetensors").read_bytes())
