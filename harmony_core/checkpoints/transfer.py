"""Weights of one transformer as the start of another: branch by branch, each whole or not at all."""

from __future__ import annotations

import torch

from ..config import HarmonyConfig
from ..model import HarmonyTransformer
from .errors import CheckpointError
from .files import ModelFile, read_tensors

PREFIXES = {"audio": "audio.", "speech": "speech.", "interactions": "interactions."}  # video has no prefix
# What weights mean, beside their shapes: a branch is another's only where these are the same.
MEANING = {
    "video": ("video_channels", "patch_size", "temporal_stride"),
    "audio": ("audio_channels", "sample_rate", "audio_latent_rate", "audio_patch_embedding"),
    "speech": ("speech", "reads_transcript_across"),
    "interactions": ("interaction", "layers_with_interaction"),
}


def branch_of(key: str) -> str:
    """`video`, `audio`, `speech` or `interactions`."""
    return next((branch for branch, prefix in PREFIXES.items() if key.startswith(prefix)), "video")


@torch.no_grad()
def transfer(model: HarmonyTransformer, source: ModelFile) -> dict[str, str]:
    """Copy every branch of `source` that is one of `model`'s; the others keep their weights.

    With interactions whose outputs are zero (`model.initialize`) the video side of a Harmony that got Wan's branch then
    equals Wan's bit for bit.

    Returns:
        Of each branch of the model where its weights come from, in words.

    Raises:
        CheckpointError: none fits.
    """
    own, found = model.state_dict(), source.files.shapes(source.keys.sources)
    name, taken, lines = source.files.name, [], {}
    for branch in dict.fromkeys(branch_of(key) for key in own):
        expected = {key: tuple(value.shape) for key, value in own.items() if branch_of(key) == branch}
        there = {key: shape for key, shape in found.items() if branch_of(key) == branch}
        why = _difference(branch, model.config, source.config, expected, there)
        lines[branch] = f"its own first weights: {why}" if why else f"all {len(expected)} tensors of {name}"
        if not why:
            taken.append(branch)
    if not taken:
        told = "; ".join(f"{branch} has {line}" for branch, line in lines.items())
        raise CheckpointError(f"Nothing of {name} can be a start of this model: {told}.")
    sources = {key: value for key, value in source.keys.sources.items() if branch_of(key) in taken}
    scales = {key: value for key, value in source.keys.scales.items() if key in sources}
    for key, tensor in read_tensors(source.files, sources, scales, None, "cpu"):
        own[key].copy_(tensor)
    return lines


def _difference(
    branch: str,
    config: HarmonyConfig,
    other: HarmonyConfig,
    expected: dict[str, tuple[int, ...]],
    there: dict[str, tuple[int, ...]],
) -> str:
    """Why a branch of a file is not this one; "" if it is."""
    if not there:
        return "the file has none"
    for name in MEANING[branch]:
        mine, theirs = getattr(config, name), getattr(other, name)
        if mine != theirs:
            return f"{name} is {mine} here and {theirs} there"
    for key in sorted({*expected, *there}):
        if expected.get(key) != there.get(key):
            shapes = [f"{list(each[key])}" if key in each else "none" for each in (expected, there)]
            return f"{key} is {shapes[0]} here and {shapes[1]} there"
    return ""
