"""The shipped workflows, read and changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..comfyui.install import REPOSITORY

WORKFLOWS = REPOSITORY / "workflows"
MEDIA = WORKFLOWS / "media"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
NEEDS_NEWEST = {"h3_lip_sync"}  # nodes that older versions of ComfyUI lack
BUILT_IN = "harmony-tiny (built in)"

# A workflow may name weight files that a user has to bring; empty ones make their names known to the server.
MODEL_FOLDERS = {
    "model_name": "diffusion_models",
    "unet_name": "diffusion_models",
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


def weight_files(prompt: Prompt) -> set[tuple[str, str]]:
    """(folder, name) of the weight files that a workflow's loaders ask for."""
    inputs = [item for node in prompt.values() for item in node["inputs"].items()]
    return {
        (MODEL_FOLDERS[name], value)
        for name, value in inputs
        if name in MODEL_FOLDERS and str(value).endswith(".safetensors")
    }


def touch_weights(models: Path, prompt: Prompt) -> None:
    """Empty files under the names that a workflow's loaders ask for."""
    for folder, name in weight_files(prompt):
        (models / folder).mkdir(parents=True, exist_ok=True)
        (models / folder / name).touch()
