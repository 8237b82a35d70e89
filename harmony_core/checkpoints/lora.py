"""LoRA files: the names under which they may know our weights, which stream a weight belongs to, and their sum."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model import HarmonyTransformer
from ..quoting import listed
from .errors import CheckpointError
from .layout import map_keys
from .ovi import OVI
from .wan import DIFFUSERS, Rules
from .weight_files import Paths, WeightFiles, open_files

LORA_PREFIX = "diffusion_model."  # of the files that are written here: ComfyUI's
LORA_MARKS = (".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.", ".lora.down.", ".lora.up.")
_AUDIO = re.compile(r"audio\.|speech\.|interactions\.\d+\.(v2a|style)\.")
# Where LoRA trainers put the model: diffusers' pipelines under `transformer.`, ComfyUI under `diffusion_model.`
_PREFIXES = ("transformer.", LORA_PREFIX, "")
_PAIRS = ((".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight"))
_PAIRS += ((".lora.down.weight", ".lora.up.weight"),)


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


def names_of_modules(keys: Iterable[str]) -> dict[str, str]:
    """{name of a module in any layout that a LoRA may be written in: our key of its weight}."""
    keys = [key for key in keys if key.endswith(".weight")]
    names = other_names(keys)
    for key in keys:
        name = key.removesuffix(".weight")
        names |= {prefix + name: key for prefix in _PREFIXES} | {"lora_unet_" + name.replace(".", "_"): key}
    return names


@dataclass(frozen=True)
class LoraPair:
    """The two matrices of an adapter, [rank, in] and [out, rank] with the kernel's axes behind, and its factor."""

    name: str  # of the module, as the file has it
    down: Tensor
    up: Tensor
    scale: float

    def delta(self, shape: torch.Size) -> Tensor:
        """What it adds to a weight of `shape`, in float32. Raises ValueError for another shape's."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        if product.numel() != shape.numel():
            raise ValueError(f"{self.name} is for a weight of {list(product.shape)}, but the model's is {list(shape)}")
        return product.view(shape) * self.scale


def lora_pairs(files: WeightFiles) -> Iterator[LoraPair]:
    """Every adapter of a file. Raises CheckpointError for a matrix without its other, and for kinds other than LoRA."""
    lora_ranks(files)
    tensors = {key: files.handles[entry.path].get_tensor(entry.key) for key, entry in files.entries.items()}
    for down_mark, up_mark in _PAIRS:
        for key in [key for key in tensors if key.endswith(down_mark)]:
            name = key.removesuffix(down_mark)
            down, up, alpha = tensors.pop(key), tensors.pop(name + up_mark, None), tensors.pop(name + ".alpha", None)
            if up is None:
                raise CheckpointError(f"{files.name} has {key} without {name + up_mark}; it is not whole.")
            rank = down.shape[0]
            yield LoraPair(name, down, up, 1.0 if alpha is None else float(alpha) / rank)
    if tensors:
        raise CheckpointError(
            f"{files.name} has what is no pair of LoRA matrices, for example {listed(sorted(tensors), 3)}; only plain "
            "LoRA is computed with here. ComfyUI knows other kinds."
        )


@torch.no_grad()
def apply_lora(
    transformer: HarmonyTransformer, paths: Paths, video_strength: float = 1.0, audio_strength: float = 1.0
) -> None:
    """Add a LoRA to a model's weights, for good: summed in float32, kept in their own dtype.

    Args:
        video_strength, audio_strength: of what acts on the video, and on the sound (`writes_audio`).

    Raises:
        CheckpointError: no LoRA, or one of which not every key fits this model.
    """
    files = open_files(paths)
    weights: Mapping[str, Tensor] = dict(transformer.named_parameters())
    names, strange, wrong = names_of_modules(weights), [], []
    found = False
    for pair in lora_pairs(files):
        found = True
        key = names.get(pair.name)
        if key is None:
            strange.append(pair.name)
            continue
        weight = weights[key]
        strength = audio_strength if writes_audio(key) else video_strength
        try:
            weight.data = (weight.float() + strength * pair.delta(weight.shape).to(weight.device)).to(weight.dtype)
        except (ValueError, RuntimeError) as error:  # matrices that do not go together
            wrong.append(str(error))
    if not found:
        first = ", ".join(sorted(files.entries)[:3])
        raise CheckpointError(f"{files.name} holds no LoRA. Its first keys: {first}.")
    if strange or wrong:
        reasons = [f"this model has no {listed(strange, 3)}"] * bool(strange) + wrong[:1]
        raise CheckpointError(
            f"{files.name} does not fit this model: of its keys, {len(strange) + len(wrong)} reach nothing: "
            f"{'; '.join(reasons)}. It was made for another model."
        )
