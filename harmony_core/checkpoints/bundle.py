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

from ..autoencoders.interface import AudioAutoencoder, VideoAutoencoder
from ..autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ..config import HarmonyConfig
from ..model import HarmonyTransformer
from ..quoting import listed, quoted, shortened
from ..text.interface import TextEncoder
from ..text.tiny_encoder import TinyTextEncoder
from .errors import CheckpointError
from .files import assign, check_weights
from .weight_files import CONFIG_KEY, Entry, WeightFiles, open_files, parse_json, plain_sources
from .write import write_safetensors

ASSETS = Path(__file__).parent.parent / "assets"
TRANSFORMER, VIDEO_VAE, AUDIO_VAE, TEXT_ENCODER = "model.diffusion_model.", "vae.", "audio_vae.", "text_encoders."
COMPANIONS = {"vae": VIDEO_VAE, "audio_vae": AUDIO_VAE, "text_encoder": TEXT_ENCODER}  # by the names of their settings
PARTS = (TRANSFORMER, *COMPANIONS.values())
MOST_BLOCKS, MOST_CHANNELS = 2**10, 2**20  # of the small parts

Part = TypeVar("Part", TinyVideoVAE, TinyAudioVAE, TinyTextEncoder)


@dataclass
class Bundle:
    """Everything `harmony generate` needs, in eval mode."""

    config: HarmonyConfig
    transformer: HarmonyTransformer
    video_vae: VideoAutoencoder
    audio_vae: AudioAutoencoder | None  # None: a model without sound
    text_encoder: TextEncoder
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
    """Write a bundle of our own small parts with its weights in `dtype`; normalisation buffers and ids keep theirs."""
    audio_vae, text_encoder = bundle.audio_vae, bundle.text_encoder
    assert isinstance(audio_vae, TinyAudioVAE)
    assert isinstance(text_encoder, TinyTextEncoder)
    settings = {
        "transformer": bundle.config.to_dict(),
        "vae": bundle.video_vae.config,
        "audio_vae": audio_vae.config,
        "text_encoder": text_encoder.config,
    }
    text = json.dumps(settings)
    tensors: dict[str, Tensor] = {TRANSFORMER + CONFIG_KEY: settings_tensor(text)}
    for prefix, module in (
        (TRANSFORMER, bundle.transformer),
        (VIDEO_VAE, bundle.video_vae),
        (AUDIO_VAE, audio_vae),
        (TEXT_ENCODER, text_encoder),
    ):
        parameters = {name for name, _ in module.named_parameters()}
        for name, tensor in module.state_dict().items():
            tensors[prefix + name] = tensor.to(dtype) if name in parameters else tensor
    write_safetensors(path, tensors, {"config": text, "model_card": json.dumps(bundle.model_card)})


def save_transformer(
    path: Path, config: HarmonyConfig, transformer: HarmonyTransformer, dtype: torch.dtype, model_card: dict[str, Any]
) -> None:
    """Write a transformer alone, in Harmony's layout with its config, which ComfyUI's and our loaders read."""
    tensors, metadata = transformer_tensors(config, transformer)
    tensors = {key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()}
    write_safetensors(path, tensors, metadata | {"model_card": json.dumps(model_card)})


def transformer_tensors(
    config: HarmonyConfig, transformer: HarmonyTransformer
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a transformer's own file."""
    text = json.dumps({"transformer": config.to_dict()})
    return {CONFIG_KEY: settings_tensor(text), **transformer.state_dict()}, {"config": text}


def settings_tensor(text: str) -> Tensor:
    """Settings as weight files keep them, uint8 [N]."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def read_settings(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings, model card) of a bundle, without its weights.

    Raises:
        CheckpointError: unreadable, truncated, or not a Harmony bundle.
    """
    files = open_files(path)
    return _settings(files), _model_card(files)


def load_bundle(name: str | Path, dtype: torch.dtype = torch.float32) -> Bundle:
    """Load a bundle by embedded name or path: the transformer in `dtype`, the small parts in float32.

    Raises:
        CheckpointError: not a bundle, or keys that do not fit its config.
    """
    files = open_files(resolve(name))
    settings = _bundle_settings(files)
    config = HarmonyConfig.from_dict(settings["transformer"])
    transformer = HarmonyTransformer(config, device="meta", dtype=dtype)
    _fill(transformer, files, TRANSFORMER, dtype)
    return Bundle(config, transformer, *_companions(files, settings), _model_card(files))


def load_companions(name: str | Path) -> tuple[HarmonyConfig, TinyVideoVAE, TinyAudioVAE, TinyTextEncoder]:
    """A bundle's config and small parts in float32, for a host that builds the transformer itself.

    Raises:
        CheckpointError: as `load_bundle`.
    """
    files = open_files(resolve(name))
    settings = _bundle_settings(files)
    return HarmonyConfig.from_dict(settings["transformer"]), *_companions(files, settings)


def _settings(files: WeightFiles) -> dict[str, Any]:
    if files.settings is None:
        shown = listed(files.entries) or "no tensors"
        raise CheckpointError(
            f"{files.name} is not a Harmony checkpoint: neither its config metadata nor a {CONFIG_KEY} tensor says "
            f"what its transformer is (its first keys: {shown}). ComfyUI saves a whole one with CheckpointSave."
        )
    return files.settings


def _model_card(files: WeightFiles) -> dict[str, Any]:
    card = parse_json(files.metadata.get("model_card", "{}"), f"{files.name}: its model_card")
    if not isinstance(card, dict):
        raise CheckpointError(f"{files.name}: its model_card is {quoted(card)}, but must be a JSON object.")
    return card


def _bundle_settings(files: WeightFiles) -> dict[str, Any]:
    """The settings of a file that holds every part and nothing else."""
    settings = _settings(files)
    _require_parts(files, [part for part in COMPANIONS if part not in settings])
    left = sorted(key for key in files.entries if not key.startswith(PARTS))
    if left:
        raise CheckpointError(f"{files.name} has {len(left)} unknown tensors, the first: {left[0]}.")
    return settings


def absent_companions(files: WeightFiles) -> list[str]:
    """The parts beside the transformer of which a file has no key."""
    return [part for part, start in COMPANIONS.items() if not any(key.startswith(start) for key in files.entries)]


def _require_parts(files: WeightFiles, missing: Iterable[str]) -> None:
    """Raises CheckpointError where there are missing parts."""
    absent = ", ".join(missing)
    if absent:
        raise CheckpointError(
            f"{files.name} is a transformer alone: it lacks {absent}. In ComfyUI, put it into models/diffusion_models "
            "and use Harmony Model Loader; on the command line, give the other parts as well."
        )


def _companions(files: WeightFiles, settings: dict[str, Any]) -> tuple[TinyVideoVAE, TinyAudioVAE, TinyTextEncoder]:
    # ComfyUI's ModelSave keeps what the whole checkpoint said of itself
    _require_parts(files, absent_companions(files))
    return (
        _companion(TinyVideoVAE, settings["vae"], files, VIDEO_VAE),
        _companion(TinyAudioVAE, settings["audio_vae"], files, AUDIO_VAE),
        _companion(TinyTextEncoder, settings["text_encoder"], files, TEXT_ENCODER),
    )


def _companion(kind: type[Part], settings: Any, files: WeightFiles, prefix: str) -> Part:
    """A small part with its weights. Nothing is allocated before its shapes have been compared with the file's.

    Raises:
        CheckpointError: settings that are none of its, or weights that do not fit them.
    """
    try:
        for name, value in settings.items():
            if isinstance(value, int) and not 1 <= value <= (MOST_BLOCKS if name.endswith("blocks") else MOST_CHANNELS):
                raise ValueError(f"{name} is {quoted(value)}")
        with torch.device("meta"):
            planned = kind(**settings).state_dict()
        check_weights(planned, files, plain_sources(files, prefix)[0], _config_of(prefix))
        part = kind(**settings)
    except CheckpointError:
        raise
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:  # settings that are no arguments of theirs
        raise CheckpointError(
            f"{files.name} holds settings that this version cannot read: {shortened(str(error), 300)}"
        ) from error
    _fill(part, files, prefix, torch.float32)
    return part


def _fill(part: nn.Module, files: WeightFiles, prefix: str, dtype: torch.dtype) -> None:
    """The weights under `prefix`. Raises CheckpointError for keys that do not fit."""
    assign(part, files, *plain_sources(files, prefix), dtype, "cpu", _config_of(prefix))


def _config_of(prefix: str) -> str:
    return f"its config ({prefix[:-1]})"


def describe(name: str | Path) -> dict[str, Any]:
    """What a checkpoint file is: size, parts and parameter counts, dtypes, config, model card.

    Raises:
        CheckpointError: as `read_settings`.
    """
    path = resolve(name)
    files = open_files(path)
    return describe_files(files, path)


def describe_files(files: WeightFiles, path: Path) -> dict[str, Any]:
    """The same of an opened file."""
    settings, card = _settings(files), _model_card(files)
    parts: dict[str, list[Entry]] = defaultdict(list)
    prefixes = {TRANSFORMER: "transformer", VIDEO_VAE: "vae", AUDIO_VAE: "audio_vae", TEXT_ENCODER: "text_encoder"}
    for key, entry in files.entries.items():
        part = next((title for prefix, title in prefixes.items() if key.startswith(prefix)), "transformer")
        parts[part].append(entry)
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "layout": "harmony bundle" if len(parts) > 1 else "harmony transformer",
        "parts": {part: count_tensors(entries) for part, entries in parts.items()},
        "config": settings["transformer"],
        "model_card": card,
    }


def count_tensors(entries: Iterable[Entry]) -> dict[str, Any]:
    """How many tensors and parameters, and how many tensors of each dtype."""
    entries = list(entries)
    return {
        "tensors": len(entries),
        "parameters": sum(math.prod(entry.shape) for entry in entries),
        "dtypes": dict(Counter(entry.dtype for entry in entries)),
    }
