"""LoRA files on a Harmony model, with a strength per stream."""

from __future__ import annotations

import comfy.lora
import comfy.lora_convert
import comfy.utils
import folder_paths
from comfy.model_patcher import ModelPatcher

from ...harmony_core.checkpoints.lora import other_names, writes_audio
from .model import HarmonyModel

PREFIX = "diffusion_model."


def lora_names() -> list[str]:
    """The files in models/loras."""
    return folder_paths.get_filename_list("loras")


def apply_lora(patcher: ModelPatcher, name: str, video_strength: float, audio_strength: float) -> ModelPatcher:
    """A copy of the model with a LoRA on it.

    Raises:
        ValueError: not a Harmony model, or no key of the file fits it.
    """
    if not isinstance(patcher.model, HarmonyModel):
        raise ValueError(
            f"Harmony LoRA needs a model with video and audio, but this is {type(patcher.model).__name__}; "
            "use LoraLoaderModelOnly for it."
        )
    path = folder_paths.get_full_path_or_raise("loras", name)
    lora = comfy.lora_convert.convert_lora(comfy.utils.load_torch_file(path, safe_load=True))
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
