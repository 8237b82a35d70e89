"""Harmony in ComfyUI's list of known models, so that its own loaders recognise our files.

ComfyUI asks every entry of its list about every file that it loads, whatever the model. So this entry answers for files
of ours alone, cannot raise, and stands behind all entries that need not be asked after it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, fields
from typing import Any

import comfy.supported_models
import comfy.supported_models_base
import torch
from torch import Tensor, nn

from ...harmony_core.autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ...harmony_core.checkpoints.bundle import AUDIO_VAE, CONFIG_KEY, TEXT_ENCODER, VIDEO_VAE
from ...harmony_core.checkpoints.errors import CheckpointError
from ...harmony_core.checkpoints.layout import QUANT_KEY, quantised_layers, recognise, rename, unpacked
from ...harmony_core.checkpoints.sizes import config_from_shapes
from ...harmony_core.config import HarmonyConfig
from ...harmony_core.text.tiny_encoder import TinyTextEncoder
from .latent_format import latent_format
from .model import HarmonyModel

logger = logging.getLogger(__name__)

IMAGE_MODEL = "wan2.1"  # what ComfyUI's detection calls the layout of our video branch
AUDIO_KEY, UNIAVGEN_KEY = "audio.head.modulation", "head_audio.modulation"
MEMORY_WIDTH = 2222  # ComfyUI's own scale for Wan: width / 2222
SMALL_WIDTH = 1024


@dataclass(frozen=True)
class Companions:
    """What a bundle has beside its transformer; CheckpointSave has no socket for the audio autoencoder."""

    video_vae: TinyVideoVAE
    audio_vae: TinyAudioVAE
    text_encoder: TinyTextEncoder

    def settings(self) -> dict[str, Any]:
        """Of the parts, as bundles store them."""
        parts = {"vae": self.video_vae, "audio_vae": self.audio_vae, "text_encoder": self.text_encoder}
        return {name: part.config for name, part in parts.items()}


class HarmonyModelConfig(comfy.supported_models_base.BASE):
    """Recognises a Wan2.2 layout with an audio branch: this pack's, or UniAVGen's."""

    unet_config: dict[str, Any] = {"image_model": IMAGE_MODEL}  # noqa: RUF012
    unet_extra_config = {}  # noqa: RUF012
    supported_inference_dtypes = [torch.bfloat16, torch.float16, torch.float32]  # noqa: RUF012
    vae_key_prefix = [VIDEO_VAE]  # noqa: RUF012
    text_encoder_key_prefix = [TEXT_ENCODER]  # noqa: RUF012
    companions: Companions | None = None  # of a model that came in a bundle, so that it can be saved as one

    def __init__(self, unet_config: dict[str, Any], *_: Any, **__: Any) -> None:
        super().__init__(unet_config)
        if unet_config["dim"] < SMALL_WIDTH:  # half precision saves nothing here; the command line runs it in float32
            self.supported_inference_dtypes = [torch.float32]

    @classmethod
    def matches(cls, *args: Any, **kwargs: Any) -> bool:
        """Whether the file is ours, as `recognises` says; a fault of ours leaves the file to ComfyUI's own entries."""
        try:
            return cls.recognises(*args, **kwargs)
        except Exception:
            logger.exception("Harmony: a file could not be looked at, so ComfyUI takes it for a model of its own")
            return False

    @classmethod
    def recognises(
        cls,
        unet_config: dict[str, Any],
        state_dict: dict[str, Tensor] | None = None,
        unet_key_prefix: str | None = None,
        *_: Any,
        **__: Any,
    ) -> bool:
        """A core before 0.28 does not tell where the transformer's keys begin."""
        if unet_config.get("image_model") != IMAGE_MODEL:
            return False
        keys = state_dict or {}
        if unet_key_prefix is None:
            return any(key.endswith((AUDIO_KEY, UNIAVGEN_KEY)) for key in keys)
        return unet_key_prefix + AUDIO_KEY in keys or unet_key_prefix + UNIAVGEN_KEY in keys

    def get_model(
        self, state_dict: dict[str, Tensor], prefix: str = "", device: Any = None, *_: Any, **__: Any
    ) -> HarmonyModel:
        """The model for these weights. Raises ValueError when they do not say what they are."""
        try:
            harmony = read_config(state_dict, prefix, self.unet_config)
        except CheckpointError as error:  # core's loaders show it, which put the path of such a class in front
            raise ValueError(str(error)) from error
        self.unet_config["harmony"] = harmony
        self.sampling_settings = {"shift": harmony.shift}
        self.latent_format = latent_format(harmony)
        self.memory_usage_factor = harmony.dim / MEMORY_WIDTH
        return HarmonyModel(self, harmony, device=device)

    def process_unet_state_dict(self, state_dict: dict[str, Tensor], *_: Any, **__: Any) -> dict[str, Tensor]:
        state_dict.pop(CONFIG_KEY, None)
        if UNIAVGEN_KEY in state_dict:
            return rename(state_dict, recognise(state_dict, "This file"))
        return state_dict

    def process_unet_state_dict_for_saving(
        self, state_dict: dict[str, Tensor], *_: Any, **__: Any
    ) -> dict[str, Tensor]:
        others = {} if self.companions is None else self.companions.settings()
        text = json.dumps({"transformer": self.unet_config["harmony"].to_dict(), **others})
        config = torch.tensor(list(text.encode()), dtype=torch.uint8)
        return super().process_unet_state_dict_for_saving({**state_dict, CONFIG_KEY: config})

    def process_vae_state_dict_for_saving(self, state_dict: dict[str, Tensor], *_: Any, **__: Any) -> dict[str, Tensor]:
        """A bundle's audio autoencoder goes with its video autoencoder. Raises ValueError for another one."""
        audio: dict[str, Tensor] = {}
        if self.companions is not None:
            check_part(self.companions.video_vae, state_dict, "VAE", "vae")
            audio = {AUDIO_VAE + key: value for key, value in self.companions.audio_vae.state_dict().items()}
        return super().process_vae_state_dict_for_saving(state_dict) | audio

    def process_clip_state_dict_for_saving(
        self, state_dict: dict[str, Tensor], *_: Any, **__: Any
    ) -> dict[str, Tensor]:
        """Raises ValueError for another text encoder than the bundle's."""
        if self.companions is not None:
            state_dict = {key.removeprefix("encoder."): value for key, value in state_dict.items()}
            check_part(self.companions.text_encoder, state_dict, "CLIP", "clip")
        return super().process_clip_state_dict_for_saving(state_dict)

    def process_vae_state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        logger.warning("Harmony: use HarmonyCheckpointLoader for this file's autoencoders and text encoder.")
        return {}

    def clip_target(self, *_: Any, **__: Any) -> None:
        return None


def check_part(own: nn.Module, found: dict[str, Tensor], kind: str, output: str) -> None:
    """Raises ValueError when a part that is saved with a bundle's model is not the bundle's."""
    shapes = {key: tuple(value.shape) for key, value in own.state_dict().items()}
    if shapes != {key: tuple(value.shape) for key, value in found.items()}:
        raise ValueError(
            f"This {kind} is not of the model's checkpoint, so they cannot be saved in one file; connect output "
            f"{output!r} of HarmonyCheckpointLoader, or save the model alone with ModelSave."
        )


def read_config(state_dict: dict[str, Tensor], prefix: str, detected: dict[str, Any]) -> HarmonyConfig:
    """The checkpoint's config: its tensor, else its metadata (which ComfyUI merged into `detected`), else its shapes.

    Raises:
        CheckpointError: none of the three says how many heads there are.
    """
    if prefix + CONFIG_KEY in state_dict:
        settings = json.loads(bytes(state_dict[prefix + CONFIG_KEY].tolist()))
        return HarmonyConfig.from_dict(settings["transformer"])
    known = {field.name for field in fields(HarmonyConfig)}
    if "audio_latent_rate" in detected:
        return HarmonyConfig.from_dict({name: value for name, value in detected.items() if name in known})
    shapes = {key.removeprefix(prefix): tuple(value.shape) for key, value in state_dict.items()}
    for layer in quantised_layers(shapes):
        settings = json.loads(bytes(state_dict[prefix + layer + QUANT_KEY].tolist()))
        shapes[layer + ".weight"] = unpacked(shapes[layer + ".weight"], settings["format"])
    keys = recognise(shapes, "This Harmony file")
    return config_from_shapes({ours: shapes[key] for ours, key in keys.sources.items()}, keys.layout, "This file")


def register_model() -> None:
    """Put our config into ComfyUI's list, once: right before the first entry that would take our files for its own."""
    others = [model for model in comfy.supported_models.models if model.__name__ != HarmonyModelConfig.__name__]
    claims = (i for i, model in enumerate(others) if model.unet_config.get("image_model") == IMAGE_MODEL)
    first = next(claims, len(others))
    comfy.supported_models.models[:] = [*others[:first], HarmonyModelConfig, *others[first:]]
