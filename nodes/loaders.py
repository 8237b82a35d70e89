"""Nodes that load checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.quant_ops
import comfy.sd
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..harmony_core.autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ..harmony_core.checkpoints.bundle import embedded_checkpoints, load_companions, settings_tensor
from ..harmony_core.checkpoints.errors import CheckpointError
from ..harmony_core.checkpoints.files import open_model
from ..harmony_core.checkpoints.layout import QUANT_KEY, rename
from ..harmony_core.checkpoints.parts import is_mel_vocoder, load_mel_codec
from ..harmony_core.checkpoints.weight_files import CONFIG_KEY, WeightFiles, open_files, shard_set
from ..harmony_core.config import HarmonyConfig
from ..harmony_core.presets import PRESETS
from ..harmony_core.text.tiny_encoder import TinyTextEncoder
from .host.autoencoders import VOCODER_BYTES_PER_SAMPLE, BundleAudioVAE, BundleVideoVAE
from .host.files import load_tensors
from .host.registration import Companions
from .host.run_hooks import prepare_runs, with_shift
from .host.text_encoder import bundle_clip

BUILT_IN = " (built in)"
NO_FILE = "none"
SMOOTHING = {"pre_quant_scale"}  # of a layer's input; a core that does not know it would leave it out unsaid

# How ComfyUI's own loader stores weights, by the name that its node shows.
WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}


class HarmonyCheckpointLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyCheckpointLoader",
            display_name="Harmony Checkpoint Loader",
            category="Harmony",
            description="Loads a checkpoint with everything it needs. The built-in one is part of this pack: "
            "no download.",
            search_aliases=["harmony", "audio video", "load harmony", "video with sound"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=checkpoint_names(),
                    tooltip="The built-in demonstration model, or a Harmony bundle in models/checkpoints.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model"),
                io.Clip.Output(display_name="clip", tooltip="Text encoder."),
                io.Vae.Output(display_name="vae", tooltip="Video autoencoder."),
                io.Vae.Output(display_name="audio_vae", tooltip="Audio autoencoder."),
            ],
        )

    @classmethod
    def execute(cls, checkpoint: str) -> io.NodeOutput:
        return io.NodeOutput(*load_checkpoint(checkpoint))


class HarmonyAudioVAELoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyAudioVAELoader",
            display_name="Harmony Audio VAE Loader",
            category="Harmony",
            description="Loads UniAVGen's sound: a mel spectrogram in, Qwen2.5-Omni's vocoder out. Every other "
            "autoencoder comes from core's Load VAE.",
            search_aliases=["uniavgen", "vocoder", "bigvgan", "mel", "qwen2.5-omni", "load vae"],
            inputs=[
                io.Combo.Input(
                    "vae_name",
                    options=folder_paths.get_filename_list("vae"),
                    tooltip="A file in models/vae: the weights in code2wav_bigvgan_model, under any name.",
                ),
            ],
            outputs=[io.Vae.Output(display_name="audio_vae", tooltip="For every node with an audio_vae.")],
        )

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_mel_vae(Path(folder_paths.get_full_path_or_raise("vae", vae_name))))


class HarmonyModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyModelLoader",
            display_name="Harmony Model Loader",
            category="Harmony",
            description="Loads a transformer alone: Harmony, Ovi, UniAVGen or Wan2.2-TI2V-5B, as published, in one "
            "file or in parts. Autoencoders and text encoder come from core's VAELoader and CLIPLoader.",
            search_aliases=["harmony", "ovi", "uniavgen", "wan2.2", "wan 5b", "load diffusion model", "unet loader"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_names(),
                    tooltip="A file in models/diffusion_models. Of a model in numbered shards, any one stands for all.",
                ),
                io.Combo.Input(
                    "audio_name",
                    options=[NO_FILE, *model_names()],
                    default=NO_FILE,
                    tooltip="The audio half, for an Ovi model that comes in two files.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="How weights are kept. fp8 halves the memory of 16-bit files and costs some quality; "
                    "fast also multiplies in fp8, on cards that can.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="Harmony, Ovi and UniAVGen make video and sound; Wan2.2 alone is ComfyUI's own model of "
                    "video.",
                )
            ],
        )

    @classmethod
    def execute(cls, model_name: str, audio_name: str, weight_dtype: str) -> io.NodeOutput:
        return io.NodeOutput(load_diffusion_model(model_name, audio_name, weight_dtype))


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
    companions = companion_nodes(config, video_vae, audio_vae, text_encoder)
    patcher = load_model([path])
    patcher.model.show_previews(companions[1].preview)
    patcher.model.model_config.companions = Companions(video_vae, audio_vae, text_encoder)
    for index, companion in enumerate(companions):
        init: Any = (companion_patchers, (path,), index)  # older cores say a pair
        companion.patcher.cached_patcher_init = init
    return patcher, *companions


def companion_nodes(
    config: HarmonyConfig, video_vae: TinyVideoVAE, audio_vae: TinyAudioVAE, text_encoder: TinyTextEncoder
) -> tuple[comfy.sd.CLIP, BundleVideoVAE, BundleAudioVAE]:
    """A bundle's text encoder and autoencoders."""
    return bundle_clip(text_encoder), BundleVideoVAE(video_vae, config), BundleAudioVAE(audio_vae, config)


def companion_patchers(path: Path, *_: Any, **__: Any) -> list[ModelPatcher]:
    """What ComfyUI calls for copies of these on another device."""
    return [companion.patcher for companion in companion_nodes(*load_companions(path))]


def load_mel_vae(path: Path) -> BundleAudioVAE:
    """UniAVGen's audio autoencoder. Raises CheckpointError for another file than its vocoder."""
    files = open_files(path)
    if not is_mel_vocoder(files.entries):
        raise CheckpointError(
            f"{path.name} is not UniAVGen's vocoder (Qwen2.5-Omni's BigVGAN); load other autoencoders with core's Load "
            "VAE."
        )
    vae = BundleAudioVAE(load_mel_codec(files), PRESETS["uniavgen"], VOCODER_BYTES_PER_SAMPLE)
    vae.patcher.cached_patcher_init = (mel_patcher, (path,))
    return vae


def mel_patcher(path: Path, *_: Any, **__: Any) -> ModelPatcher:
    """What ComfyUI calls for a copy on another device."""
    return load_mel_vae(path).patcher


def load_diffusion_model(name: str, audio_name: str, weight_dtype: str) -> ModelPatcher:
    """A transformer in models/diffusion_models, of any known layout; one shard stands for all of its set.

    Raises:
        CheckpointError: unreadable, unknown, or keys that are missing or too many.
    """
    names = [name] if audio_name == NO_FILE else [name, audio_name]
    paths = [Path(folder_paths.get_full_path_or_raise("diffusion_models", each)) for each in names]
    return load_model([shard for path in paths for shard in shard_set(path)], WEIGHT_DTYPES[weight_dtype])


def load_model(
    paths: list[Path], model_options: dict[str, Any] | None = None, disable_dynamic: bool = False, *_: Any, **__: Any
) -> ModelPatcher:
    """The transformer in these files: Wan2.2 alone as ComfyUI's own model, any other as a HarmonyModel.

    ComfyUI calls this again when it needs a copy without dynamic loading.

    Raises:
        CheckpointError: unreadable, unknown, or keys that are missing or too many.
    """
    opened = open_model(paths)
    config = opened.config
    check_formats(opened.files)
    opened.check()
    tensors = {key: value for path in paths for key, value in load_tensors(str(path)).items()}
    stored = opened.files.quantised.items()
    tensors |= {name + QUANT_KEY: settings_tensor(json.dumps(layer.settings)) for name, layer in stored}
    state_dict = rename(tensors, opened.keys)
    if config.audio:
        state_dict[CONFIG_KEY] = settings_tensor(json.dumps({"transformer": config.to_dict()}))
    options = model_options or {}
    patcher = comfy.sd.load_diffusion_model_state_dict(
        state_dict, model_options=options, disable_dynamic=disable_dynamic
    )
    assert patcher is not None  # Wan's layout is core's own, and ours is registered
    if not config.audio:
        patcher = with_shift(patcher, config.shift)  # ComfyUI's default is not Wan2.2-5B's
    patcher.cached_patcher_init = (load_model, (paths, options))
    return prepare_runs(patcher)


def check_formats(files: WeightFiles) -> None:
    """Raises CheckpointError for a layer in a format that the ComfyUI at hand does not compute with."""
    known = comfy.quant_ops.QUANT_ALGOS
    for name, layer in files.quantised.items():
        if layer.form not in known:
            form = layer.form
        elif layer.beside & SMOOTHING - known[layer.form]["parameters"]:
            form = f"{layer.form} with {' and '.join(SMOOTHING)}"
        else:
            continue
        raise CheckpointError(
            f"{layer.path.name} holds {name} as {form}, which this ComfyUI does not know (it knows "
            f"{', '.join(known)}); update ComfyUI, or use a file in one of these or in bf16."
        )
