"""Nodes for LoRA files."""

from __future__ import annotations

from typing import Any

import comfy.lora
import comfy.lora_convert
import folder_paths
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..harmony_core.checkpoints.lora import lora_ranks, other_names, writes_audio
from ..harmony_core.checkpoints.weight_files import open_files
from .host.files import load_tensors
from .host.model import HarmonyModel

PREFIX = "diffusion_model."


class HarmonyLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        strength: dict[str, Any] = {"default": 1.0, "min": -20.0, "max": 20.0, "step": 0.01}
        return io.Schema(
            node_id="HarmonyLora",
            display_name="Harmony LoRA",
            category="Harmony",
            description="Puts a LoRA on a model of video and sound, with a strength for each.",
            search_aliases=["lora", "load lora", "harmony lora", "video lora", "voice lora"],
            inputs=[
                io.Model.Input("model"),
                io.Combo.Input(
                    "lora_name",
                    options=lora_names(),
                    tooltip="A file in models/loras: trained on Harmony, Ovi or Wan2.2-5B (that one has video only).",
                ),
                io.Float.Input(
                    "video_strength",
                    **strength,
                    tooltip="For the video layers and for what the video hears. 0 = as if they were not in the file.",
                ),
                io.Float.Input(
                    "audio_strength",
                    **strength,
                    tooltip="For the audio layers, speech, and what the sound sees. "
                    "0 = as if they were not in the file.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model: Any, lora_name: str, video_strength: float, audio_strength: float) -> io.NodeOutput:
        return io.NodeOutput(apply_lora(model, lora_name, video_strength, audio_strength))


def lora_names() -> list[str]:
    """The files in models/loras."""
    return folder_paths.get_filename_list("loras")


def apply_lora(patcher: ModelPatcher, name: str, video_strength: float, audio_strength: float) -> ModelPatcher:
    """A copy of the model with a LoRA on it.

    Raises:
        ValueError: not a Harmony model, a file that cannot be read as weights, or no key of it fits.
    """
    if not isinstance(patcher.model, HarmonyModel):
        raise ValueError(
            f"Harmony LoRA needs a model with video and audio, but this is {type(patcher.model).__name__}; "
            "use LoraLoaderModelOnly for it."
        )
    path = folder_paths.get_full_path_or_raise("loras", name)
    lora_ranks(open_files(path))
    lora = comfy.lora_convert.convert_lora(load_tensors(path))
    targets = comfy.lora.model_lora_keys_unet(patcher.model, {})
    own = [key.removeprefix(PREFIX) for key in patcher.model.state_dict() if key.startswith(PREFIX)]
    targets |= {other: PREFIX + key for other, key in other_names(own).items()}
    patches = comfy.lora.load_lora(lora, targets)
    if not patches:
        first = ", ".join(sorted(lora)[:3])
        raise ValueError(f"No key of {name} fits this model; it was made for another one. Its first keys: {first}.")
    patcher = patcher.clone()
    for strength, audio in ((video_strength, False), (audio_strength, True)):
        side = {key: patch for key, patch in patches.items() if writes_audio(key.removeprefix(PREFIX)) == audio}
        patcher.add_patches(side, strength)
    return patcher
