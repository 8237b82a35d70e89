"""Bundle files: transformer, autoencoders and text encoder in one safetensors file that describes itself.

The settings stand twice: as metadata `config`, and as a uint8 tensor that survives tools which drop metadata.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ..config import HarmonyConfig
from ..model import HarmonyTransformer
from ..text.captions import TinyTextEncoder
from .errors import CheckpointError
from .stream import CONFIG_KEY, Entry, open_files, open_safetensors, parse_json, stored_settings
from .write import write_safetensors

ASSETS = Path(__file__).parent.parent / "assets"
TRANSFORMER, VIDEO_VAE, AUDIO_VAE, TEXT_ENCODER = "model.diffusion_model.", "vae.", "audio_vae.", "text_encoders."
PARTS = (TRANSFORMER, VIDEO_VAE, AUDIO_VAE, TEXT_ENCODER)

Module = TypeVar("Module", bound=nn.Module)


@dataclass
class Bundle:
    """Everything `harmony generate` needs, in eval mode."""

    config: HarmonyConfig
    transformer: HarmonyTransformer
    video_vae: nn.Module
    audio_vae: nn.Module
    text_encoder: nn.Module
    model_card: dict[str, Any] = field(default_factory=dict)


def embedded_checkpoints() -> dict[str, Path]:
    """Names and files of the checkpoints that ship with the package."""
    return {path.stem: path for path in sorted(ASSETS.glob("*.safetensors"))}


def resolve(name: str | Path) -> Path:
    """An embedded checkpoint's name, or a file, to a path.

    Raises:
        CheckpointError: neither.
    """
    embedded = embedded_checkpoints()
    if str(name) in embedded:
        return embedded[str(name)]
    if Path(name).is_file():
        return Path(name)
    raise CheckpointError(
        f"There is no checkpoint file {name}; give a .safetensors file or one of: {', '.join(embedded) or 'none'}."
    )


def save_bundle(path: Path, bundle: Bundle, dtype: torch.dtype) -> None:
    """Write `bundle` with its weights in `dtype`; normalisation buffers and ids keep theirs."""
    settings = {
        "transformer": bundle.config.to_dict(),
        "vae": bundle.video_vae.config,
        "audio_vae": bundle.audio_vae.config,
        "text_encoder": bundle.text_encoder.config,
    }
    text = json.dumps(settings)
    tensors: dict[str, Tensor] = {
        TRANSFORMER + CONFIG_KEY: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    }
    for prefix, module in (
        (TRANSFORMER, bundle.transformer),
        (VIDEO_VAE, bundle.video_vae),
        (AUDIO_VAE, bundle.audio_vae),
        (TEXT_ENCODER, bundle.text_encoder),
    ):
        parameters = {name for name, _ in module.named_parameters()}
        for name, tensor in module.state_dict().items():
            tensors[prefix + name] = tensor.to(dtype) if name in parameters else tensor
    write_safetensors(path, tensors, {"config": text, "model_card": json.dumps(bundle.model_card)})


def read_settings(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings, model card) of a bundle, without its weights.

    Raises:
        CheckpointError: unreadable, truncated, or not a Harmony bundle.
    """
    with open_safetensors(path) as file:
        metadata, keys = file.metadata() or {}, list(file.keys())
        settings = stored_settings(file, keys, path.name)
    if settings is None:
        shown = ", ".join(keys[:3]) or "no tensors"
        raise CheckpointError(
            f"{path.name} is not a Harmony checkpoint: neither its config metadata nor a {CONFIG_KEY} tensor says what "
            f"its transformer is (its first keys: {shown})."
        )
    card = parse_json(metadata.get("model_card", "{}"), f"{path.name}: its model_card")
    if not isinstance(card, dict):
        raise CheckpointError(f"{path.name}: its model_card is {card!r}, but must be a JSON object.")
    return settings, card


def load_bundle(name: str | Path, dtype: torch.dtype = torch.float32) -> Bundle:
    """Load a bundle by embedded name or path: the transformer in `dtype`, the small parts in float32.

    Raises:
        CheckpointError: not a bundle, or keys that do not fit its config.
    """
    path = resolve(name)
    settings, card = _bundle_settings(path)
    config = HarmonyConfig.from_dict(settings["transformer"])
    transformer = _load_part(path, TRANSFORMER, HarmonyTransformer(config), dtype)
    return Bundle(config, transformer, *_load_companions(path, settings), card)


def load_companions(name: str | Path) -> tuple[HarmonyConfig, TinyVideoVAE, TinyAudioVAE, TinyTextEncoder]:
    """A bundle's config and small parts in float32, for a host that builds the transformer itself.

    Raises:
        CheckpointError: as `load_bundle`.
    """
    path = resolve(name)
    settings, _ = _bundle_settings(path)
    return HarmonyConfig.from_dict(settings["transformer"]), *_load_companions(path, settings)


def _bundle_settings(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `read_settings`, of a file that holds every part and nothing else."""
    settings, card = read_settings(path)
    missing = [part for part in ("vae", "audio_vae", "text_encoder") if part not in settings]
    if missing:
        raise CheckpointError(f"{path.name} is a transformer alone: it lacks {', '.join(missing)}.")
    with open_safetensors(path) as file:
        left = [key for key in file.keys() if not key.startswith(PARTS)]  # noqa: SIM118 (a safetensors handle)
    if left:
        raise CheckpointError(f"{path.name} has {len(left)} unknown tensors, the first: {sorted(left)[0]}.")
    return settings, card


def _load_companions(path: Path, settings: dict[str, Any]) -> tuple[TinyVideoVAE, TinyAudioVAE, TinyTextEncoder]:
    return (
        _load_part(path, VIDEO_VAE, TinyVideoVAE(**settings["vae"])),
        _load_part(path, AUDIO_VAE, TinyAudioVAE(**settings["audio_vae"])),
        _load_part(path, TEXT_ENCODER, TinyTextEncoder(**settings["text_encoder"])),
    )


def _load_part(path: Path, prefix: str, module: Module, dtype: torch.dtype = torch.float32) -> Module:
    """`module` with the weights under `prefix`, in eval mode, without gradients."""
    with open_safetensors(path) as file:
        keys = [key for key in file.keys() if key.startswith(prefix) and key != TRANSFORMER + CONFIG_KEY]  # noqa: SIM118
        tensors = {key.removeprefix(prefix): file.get_tensor(key) for key in keys}
    load_strict(module, tensors, f"{path.name} ({prefix.rstrip('.')})")
    return module.to(dtype).eval().requires_grad_(False)


def load_strict(module: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """load_state_dict whose error names the first offending keys."""
    expected = module.state_dict()
    wrong = [key for key, value in tensors.items() if key in expected and expected[key].shape != value.shape]
    problems = {
        "missing": sorted(set(expected) - set(tensors)),
        "unexpected": sorted(set(tensors) - set(expected)),
        "of another shape": sorted(wrong),
    }
    found = "; ".join(f"{len(keys)} {kind}, first {keys[0]}" for kind, keys in problems.items() if keys)
    if found:
        raise CheckpointError(f"{name} does not fit its config: {found}.")
    module.load_state_dict(tensors)


def describe(name: str | Path) -> dict[str, Any]:
    """What a checkpoint file is: size, parts and parameter counts, dtypes, config, model card.

    Raises:
        CheckpointError: as `read_settings`.
    """
    path = resolve(name)
    settings, card = read_settings(path)
    parts: dict[str, list[Entry]] = defaultdict(list)
    prefixes = {TRANSFORMER: "transformer", VIDEO_VAE: "vae", AUDIO_VAE: "audio_vae", TEXT_ENCODER: "text_encoder"}
    for key, entry in open_files(path).entries.items():
        part = next((title for prefix, title in prefixes.items() if key.startswith(prefix)), "transformer")
        parts[part].append(entry)
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "layout": "harmony bundle" if len(parts) > 1 else "harmony transformer",
        "parts": {part: summary(entries) for part, entries in parts.items()},
        "config": settings["transformer"],
        "model_card": card,
    }


def summary(entries: Iterable[Entry]) -> dict[str, Any]:
    """How many tensors and parameters, and how many tensors of each dtype."""
    entries = list(entries)
    return {
        "tensors": len(entries),
        "parameters": sum(math.prod(entry.shape) for entry in entries),
        "dtypes": dict(Counter(entry.dtype for entry in entries)),
    }
