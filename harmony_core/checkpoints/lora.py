"""LoRA files: the names under which they may know our weights, and which stream a weight belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .errors import CheckpointError
from .layout import map_keys
from .ovi import OVI
from .wan import DIFFUSERS, Rules
from .weight_files import WeightFiles

LORA_MARKS = (".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.", ".lora.down.", ".lora.up.")
_AUDIO = re.compile(r"audio\.|speech\.|interactions\.\d+\.(v2a|style)\.")
# Where LoRA trainers put the model: diffusers' pipelines under `transformer.`, ComfyUI under `diffusion_model.`
_PREFIXES = ("transformer.", "diffusion_model.", "")


def lora_ranks(files: WeightFiles) -> list[int]:
    """The ranks of a file's pairs of matrices; none where it has no such keys.

    Raises:
        CheckpointError: a key of a matrix without one.
    """
    ranks = set()
    for key, entry in files.entries.items():
        if any(mark in key for mark in LORA_MARKS):
            if len(entry.shape) < 2:
                raise CheckpointError(
                    f"{entry.path.name}: {key} has shape {list(entry.shape)}, but must be a matrix of a LoRA."
                )
            ranks.add(min(entry.shape[:2]))
    return sorted(ranks)


def writes_audio(key: str) -> bool:
    """Whether a weight acts on the audio stream: its own layers, speech, and what it takes from the video."""
    return _AUDIO.match(key) is not None


def other_names(keys: Iterable[str]) -> dict[str, str]:
    """{module name in another layout (diffusers' Wan, Ovi): our key}, for every weight that the layout has."""
    keys = list(keys)
    names = {}
    for rules in (DIFFUSERS, OVI):
        inverse: Rules = tuple((ours, theirs) for theirs, ours in rules)
        found, _ = map_keys(inverse, keys)
        for theirs, ours in found.items():
            for prefix in _PREFIXES:
                names[prefix + theirs.removesuffix(".weight")] = ours
    return names
