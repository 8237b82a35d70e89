"""Checkpoint files as ComfyUI's MODEL, CLIP and VAEs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import folder_paths
from comfy.model_patcher import ModelPatcher

from ...harmony_core.checkpoints.io import embedded_checkpoints, load_bundle, read_settings
from .autoencoders import BundleAudioVAE, BundleVideoVAE
from .model import HarmonyModel
from .sampling import prepare_runs
from .text_encoder import bundle_clip

BUILT_IN = " (built in)"


def checkpoint_names() -> list[str]:
    """The built-in checkpoints, then the files in models/checkpoints."""
    return [name + BUILT_IN for name in embedded_checkpoints()] + folder_paths.get_filename_list("checkpoints")


def checkpoint_path(name: str) -> Path:
    """Raises FileNotFoundError for a name that is neither."""
    if name.endswith(BUILT_IN):
        return embedded_checkpoints()[name.removesuffix(BUILT_IN)]
    return Path(folder_paths.get_full_path_or_raise("checkpoints", name))


def load_checkpoint(name: str) -> tuple[ModelPatcher, comfy.sd.CLIP, BundleVideoVAE, BundleAudioVAE]:
    """All four parts of a bundle. Raises CheckpointError when the file is something else."""
    path = checkpoint_path(name)
    read_settings(path)  # a wrong file ends here, with a message that says what it is
    bundle = load_bundle(path)
    patcher = load_model(str(path))
    vae = BundleVideoVAE(bundle.video_vae, bundle.config)
    patcher.model.show_previews(vae.preview)
    return patcher, bundle_clip(bundle.text_encoder), vae, BundleAudioVAE(bundle.audio_vae, bundle.config)


def load_model(path: str, model_options: dict[str, Any] | None = None, disable_dynamic: bool = False) -> ModelPatcher:
    """The transformer of a file; ComfyUI calls this again when it needs a copy without dynamic loading.

    Raises:
        ValueError: the file holds another model.
    """
    options = model_options or {}
    state_dict, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
    patcher = comfy.sd.load_diffusion_model_state_dict(
        state_dict, model_options=options, metadata=metadata, disable_dynamic=disable_dynamic
    )
    if patcher is None or not isinstance(patcher.model, HarmonyModel):
        raise ValueError(f"{Path(path).name} is not a Harmony model; load it with ComfyUI's own loader.")
    patcher.cached_patcher_init = (load_model, (path, options))
    return prepare_runs(patcher)
