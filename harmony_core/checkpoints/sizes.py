"""Sizes that the shapes of a file's tensors tell, and the config of a file that stores none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..config import HarmonyConfig, SpeechConfig
from ..presets import PRESETS
from .errors import CheckpointError
from .layout import Layout, Shapes, offending

# (config field, our key, axis of its shape)
_SIZES = (
    ("dim", "patch_embedding.weight", 0),
    ("video_channels", "patch_embedding.weight", 1),
    ("ffn_dim", "blocks.0.ffn.0.weight", 0),
    ("freq_dim", "time_embedding.0.weight", 1),
    ("text_dim", "text_embedding.0.weight", 1),
)
_OPTIONAL_SIZES = (
    ("audio_channels", "audio.head.head.weight", 0),
    ("audio_ffn_conv_dim", "audio.patch_embedding.2.w1.weight", 0),
)
_AUDIO_SIZES = (  # of an audio branch that may be of another width than the video's
    ("audio_dim", "audio.patch_embedding.0.weight", 0),
    ("audio_ffn_dim", "audio.blocks.0.ffn.0.weight", 0),
)


def config_from_shapes(
    shapes: Shapes, layout: Layout, name: str, head_dim: int = 128, preset: str | None = None
) -> HarmonyConfig:
    """The config of a file that stores none: sizes from its tensors, the rest from a preset.

    Args:
        shapes: of our keys.
        preset: another than the layout's, for models whose keys are the same.
        head_dim: width of an attention head; 128 in every published model.

    Raises:
        CheckpointError: keys that tell a size are missing, or sizes that are not this model's.
    """
    missing = [key for _, key, _ in _SIZES if key not in shapes]
    if missing:
        raise CheckpointError(f"{name} looks like {layout.title}, but {offending({'missing': missing})}.")
    sizes: dict[str, Any] = {field: size_of(shapes, key, axis, name) for field, key, axis in _SIZES}
    sizes |= {field: size_of(shapes, key, axis, name) for field, key, axis in _OPTIONAL_SIZES if key in shapes}
    base = PRESETS[preset or layout.preset]
    if sizes["video_channels"] != base.video_channels:
        raise CheckpointError(
            f"{name} has {sizes['video_channels']} video channels, but {layout.title} has {base.video_channels}."
        )
    if sizes["dim"] % head_dim:
        raise CheckpointError(
            f"{name} stores no config and its width {sizes['dim']} is no multiple of {head_dim}, so the number of "
            "heads cannot be told; pass head_dim or config."
        )
    sizes |= {"num_heads": sizes["dim"] // head_dim, "num_layers": count_blocks(shapes, "blocks.", name)}
    if layout.name == "harmony":
        sizes |= {"speech": _speech(shapes, name), "style_alignment": any(".style." in key for key in shapes)}
    elif base.interaction == "masked":
        sizes |= _sizes_of_masked(shapes, base, sizes["num_layers"], head_dim, name)
    try:
        return base.with_(**sizes)
    except ValueError as error:
        raise CheckpointError(f"{name} has sizes that no model has: {error}") from error


def _sizes_of_masked(shapes: Shapes, base: HarmonyConfig, num_layers: int, head_dim: int, name: str) -> dict[str, Any]:
    """What a file of UniAVGen's says beside the video branch's sizes. Every second layer has an interaction."""
    sizes: dict[str, Any] = {field: size_of(shapes, key, axis, name) for field, key, axis in _AUDIO_SIZES}
    speech = _speech(shapes, name)
    if speech is None or base.speech is None:
        raise CheckpointError(f"{name} has no transcript encoder, which this kind of model needs.")
    own = {field: getattr(speech, field) for field in ("vocab_size", "dim", "num_blocks", "conv_mult")}
    return sizes | {
        "audio_num_heads": sizes["audio_dim"] // head_dim,
        "interaction_layers": tuple(range(0, num_layers, 2)),
        "speech": replace(base.speech, **own),
    }


def _speech(shapes: Shapes, name: str) -> SpeechConfig | None:
    embedding, first = "speech.text_embed.weight", "speech.text_blocks.0.pwconv1.weight"
    if embedding not in shapes:
        return None
    rows, dim = (size_of(shapes, embedding, axis, name) for axis in (0, 1))
    blocks = count_blocks(shapes, "speech.text_blocks.", name)
    mult = size_of(shapes, first, 0, name) // max(dim, 1)
    return SpeechConfig(vocab_size=rows - 1, dim=dim, num_blocks=blocks, conv_mult=mult)


def size_of(shapes: Shapes, key: str, axis: int, name: str) -> int:
    """A size that a tensor tells.

    Raises:
        CheckpointError: it is not there, or has too few axes.
    """
    if key not in shapes:
        raise CheckpointError(f"{name} has no {key}.")
    shape = shapes[key]
    if axis >= len(shape):
        raise CheckpointError(f"{name}: {key} has shape {list(shape)}, but must have at least {axis + 1} axes.")
    return shape[axis]


def count_blocks(keys: Iterable[str], prefix: str, name: str) -> int:
    """How many blocks stand under `prefix`, which are numbered from 0.

    Raises:
        CheckpointError: none, or numbers that are left out.
    """
    numbers = {key.removeprefix(prefix).partition(".")[0] for key in keys if key.startswith(prefix)}
    expected = {str(number) for number in range(len(numbers))}
    strange = sorted(numbers - expected)
    if strange or not numbers:
        found = f"a block {prefix}{strange[0][:20]}" if strange else f"no {prefix}0"
        raise CheckpointError(f"{name} has {found}, but blocks must be numbered from 0 without a gap.")
    return len(numbers)
