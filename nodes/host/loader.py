"""Checkpoint files as ComfyUI's MODEL, CLIP and VAEs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher

from ...harmony_core.checkpoints.bundle import embedded_checkpoints, load_companions
from ...harmony_core.checkpoints.files import CONFIG_KEY, open_model, shard_set
from ...harmony_core.checkpoints.layout import rename
from .autoencoders import BundleAudioVAE, BundleVideoVAE
from .sampler import with_shift
from .sampling import prepare_runs
from .text_encoder import bundle_clip

BUILT_IN = " (built in)"
NO_FILE = "none"

# How ComfyUI's own loader stores weights, by the name that its node shows.
WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}


def checkpoint_names() -> list[str]:
    """The built-in checkpoints, then the files in models/checkpoints."""
    return [name + BUILT_IN for name in embedded_checkpoints()] + folder_paths.get_filename_list("checkpoints")


def model_names() -> list[str]:
    """The files in models/diffusion_models."""
    return folder_paths.get_filename_list("diffusion_models")


def checkpoint_path(name: str) -> Path:
    """Raises FileNotFoundError for a name that is neither."""
    if name.endswith(BUILT_IN):
        return embedded_checkpoints()[name.removesuffix(BUILT_IN)]
    return Path(folder_paths.get_full_path_or_raise("checkpoints", name))


def load_checkpoint(name: str) -> tuple[ModelPatcher, comfy.sd.CLIP, BundleVideoVAE, BundleAudioVAE]:
    """All four parts of a bundle. Raises CheckpointError when the file is something else."""
    path = checkpoint_path(name)
    config, video_vae, audio_vae, text_encoder = load_companions(path)
    patcher = load_model([path])
    vae = BundleVideoVAE(video_vae, config)
    patcher.model.show_previews(vae.preview)
    return patcher, bundle_clip(text_encoder), vae, BundleAudioVAE(audio_vae, config)


def load_diffusion_model(name: str, audio_name: str, weight_dtype: str) -> ModelPatcher:
    """A transformer in models/diffusion_models, of any known layout; one shard stands for all of its set.

    Raises:
        CheckpointError: unreadable, unknown, or keys that are missing or too many.
    """
    names = [name] if audio_name == NO_FILE else [name, audio_name]
    paths = [Path(folder_paths.get_full_path_or_raise("diffusion_models", each)) for each in names]
    return load_model([shard for path in paths for shard in shard_set(path)], WEIGHT_DTYPES[weight_dtype])


def load_model(
    paths: list[Path], model_options: dict[str, Any] | None = None, disable_dynamic: bool = False
) -> ModelPatcher:
    """The transformer in these files: Wan2.2 alone as ComfyUI's own model, any other as a HarmonyModel.

    ComfyUI calls this again when it needs a copy without dynamic loading.

    Raises:
        CheckpointError: unreadable, unknown, or keys that are missing or too many.
    """
    opened = open_model(paths)
    config = opened.config
    tensors = {key: value for path in paths for key, value in comfy.utils.load_torch_file(str(path)).items()}
    state_dict = rename(tensors, opened.keys)
    if config.audio:
        settings = json.dumps({"transformer": config.to_dict()}).encode()
        state_dict[CONFIG_KEY] = torch.frombuffer(bytearray(settings), dtype=torch.uint8)
    options = model_options or {}
    patcher = comfy.sd.load_diffusion_model_state_dict(
        state_dict, model_options=options, disable_dynamic=disable_dynamic
    )
    if not config.audio:
        patcher = with_shift(patcher, config.shift)  # ComfyUI's default is not Wan2.2-5B's
    patcher.cached_patcher_init = (load_model, (paths, options))
    return prepare_runs(patcher)
