"""`harmony train --plan`: what a run takes, before anything is loaded.

One row of each role is run on the meta device, where tensors have shapes and no memory: its FLOPs are torch's own
count, its activations what the gradients would keep. Weights, gradients and optimiser are counted from shapes. What a
device itself takes (context, fragmentation, kernels' scratch memory) and the buffers of collectives come on top.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ..config import HarmonyConfig
from ..geometry import ClipGeometry, as_fraction
from ..model import HarmonyTransformer
from ..model.inputs import AudioInput, Rows, VideoInput, picture_before
from ..model.roles import AUDIO_GIVEN, GIVEN, ISOLATED, JOINT, VIDEO_GIVEN, role_with_voice
from . import uniavgen
from .config import BFLOAT16, TrainingConfig
from .data.shards import INDEX, Shards
from .frozen import bytes_on_host
from .optim import matrices_and_rest
from .sections import ADAMW_8BIT, AUDIO_ALONE, THREE_PASS
from .start import branch_of_parameter, choose_trained, planned_models
from .tasks import split_roles

GIB = 2**30
BACKWARD = 2  # times the forward pass's FLOPs; once less for what is only passed through
ROLES = (JOINT, AUDIO_GIVEN, VIDEO_GIVEN, ISOLATED)


@dataclass(frozen=True)
class ClipShape:
    """The latents of a clip, as the transformer sees them: video [C, T_v, h, w], sound [C, T_a], reference latents."""

    video: tuple[int, ...]
    audio: tuple[int, ...]
    reference: int = 0


@dataclass(frozen=True)
class Plan:
    """Bytes are per process, FLOPs per step of the whole batch."""

    parameters: dict[str, int]  # by branch
    trained: dict[str, int]
    rows: dict[str, int]  # of a batch, by role
    forward_flops: dict[str, int]  # of a row, by role
    step_flops: int
    joint_flops: int  # of them, those of the joint rows
    tokens: int  # of a step: of every row, both streams
    weights: int
    host: int  # of weights that stay in the host's memory
    gradients: int
    optimizer: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.average + self.activations

    def lines(self, card_gib: float | None = None) -> list[str]:
        """For people."""
        lines = [
            f"{branch}: {count:,} parameters, {self.trained.get(branch, 0):,} of them trained"
            for branch, count in self.parameters.items()
        ]
        for name in ("weights", "gradients", "optimizer", "average", "activations", "total"):
            lines.append(f"{name}: {getattr(self, name) / GIB:.3g} GiB a process")
        if self.host:
            lines.append(f"on the host: {self.host / GIB:.3g} GiB a process")
        rows = ", ".join(f"{count} {role}" for role, count in self.rows.items() if count)
        forward = ", ".join(f"{role} {self.forward_flops[role] / 1e12:.3g}" for role, n in self.rows.items() if n)
        lines.append(f"a step: rows {rows}; forward TFLOP of a row: {forward}")
        lines.append(f"a step: {self.step_flops / 1e12:.4g} TFLOP with gradients, {self.tokens:,} tokens")
        if self.joint_flops:
            lines.append(f"a step: {self.step_flops / self.joint_flops:.3g} times its joint rows alone")
        if card_gib is not None:
            left = card_gib - self.total / GIB
            verdict = f"fits, {left:.3g} GiB left" if left > 0 else f"does not fit: {-left:.3g} GiB are missing"
            lines.append(f"a card of {card_gib:g} GiB: {verdict}")
        return lines


def make_plan(config: TrainingConfig, clip: ClipShape | None = None, processes: int = 1, sharded: bool = False) -> Plan:
    """The plan of a run.

    Args:
        clip: of every row; None = the model's own clip, with the longest reference.
        processes: that share the batch.
        sharded: whether they share weights, gradients and optimiser as well (FSDP2, ZeRO-3).

    Raises:
        ValueError: weights to start from whose config cannot be told.
    """
    models = planned_models(config)
    model = choose_trained(models, config, ids=False)
    shape = clip or own_clip(models.config, config)
    parameters, trained = Counter(), Counter()
    for name, parameter in model.named_parameters():
        parameters[branch_of_parameter(name)] += parameter.numel()
        if parameter.requires_grad:
            trained[branch_of_parameter(name)] += parameter.numel()
    rows = _rows(config)
    own_rows = -(-sum(rows.values()) // (processes * config.accumulation))
    shards = processes if sharded else 1
    flops = {role: forward_flops(models.transformer, shape, role) for role in ROLES if rows[role]}
    share = sum(trained.values()) / sum(parameters.values())
    again = 1 if config.activation_checkpointing else 0
    factor = 1 + 1 + share + again  # forward, gradients of what passes through and of what is trained, and again
    count, host = sum(trained.values()), bytes_on_host(model)
    costs = {role: rows[role] * round(factor * each) for role, each in flops.items()}
    if config.objective.stop_drivers:
        for role in flops.keys() & GIVEN.values():
            costs[role] -= rows[role] * round((factor - 1) * driver_flops(models.transformer, shape, role))
    largest = {shape}
    if not models.config.voice_hears_video:  # a joint row behind a voice runs less than one without
        largest.add(replace(shape, reference=0))
    audio_tokens = shape.audio[1] + shape.reference
    tokens = models.config.grid((1, *shape.video))
    return Plan(
        parameters=dict(parameters),
        trained=dict(trained),
        rows=rows,
        forward_flops=flops,
        step_flops=sum(costs.values()),
        joint_flops=costs.get(JOINT, 0),
        tokens=sum(rows.values())
        * ((tokens[0] + models.config.starts_from_picture) * tokens[1] * tokens[2] + audio_tokens),
        weights=(sum(each.nbytes for each in model.parameters()) - host) // shards,
        host=host,
        gradients=4 * count // shards,
        optimizer=optimizer_bytes(list(model.trained()), config) // shards,
        average=4 * count // shards,
        activations=own_rows * max(activation_bytes(models.transformer, each, config) for each in largest),
    )


def own_clip(config: HarmonyConfig, training: TrainingConfig) -> ClipShape:
    """The clip that a model was made for; of a patch a frame where no picture is read."""
    seconds, fps = as_fraction(config.seconds), as_fraction(config.fps)
    geometry = ClipGeometry.from_seconds(seconds, fps, config.height, config.width, config)
    _, *video = geometry.video_shape(1, config.video_channels)
    if training.objective.kind == AUDIO_ALONE:
        video[2:] = config.patch_size[1:]
    reference = training.objective.reference_latents[1]
    if config.reads_transcript_across:  # a voice is heard whole
        seconds = as_fraction(config.reference_seconds) + as_fraction(config.reference_silence)
        reference = int(seconds * as_fraction(config.audio_latent_rate))
    if not training.objective.reference_share:
        reference = 0
    return ClipShape(tuple(video), (config.audio_channels, geometry.num_audio_latents), reference)


def stored_clip(config: TrainingConfig) -> ClipShape | None:
    """The largest clip of `data.shards`, None where the folder is not there yet."""
    folder = Path(config.data.shards)
    if not config.data.shards or not (folder / INDEX).is_file():
        return None
    shards = Shards(folder)
    settings, objective = shards.settings, config.objective
    largest = max(shards.entries, key=lambda entry: (prod(entry.shapes.get("video", [0])), entry.audio_latents))
    frames = (largest.frames - 1) // settings.temporal_stride + 1
    video = [settings.video_channels, frames, *settings.patch_size[1:]]
    if largest.has_video and objective.kind != AUDIO_ALONE:
        video = largest.shapes["video"]
    reference = objective.reference_latents[1]
    if settings.spoken_references:
        voices = [
            entry.shapes[part] for entry in shards.entries for part in ("voice", "reference") if part in entry.shapes
        ]
        reference = max((length for _, length in voices), default=0)
    if not objective.reference_share:
        reference = 0
    return ClipShape(tuple(video), (settings.audio_channels, largest.audio_latents), reference)


def _rows(config: TrainingConfig) -> dict[str, int]:
    """How many rows of each role a batch of whole clips has."""
    count, kind = config.batch_size, config.objective.kind
    if kind == AUDIO_ALONE:
        return dict.fromkeys(ROLES, 0) | {ISOLATED: count}
    if kind == THREE_PASS:
        return {role: 0 if role == ISOLATED else count for role in ROLES}
    found = Counter(split_roles(count, config.objective))
    return {role: found[role] for role in ROLES}


def optimizer_bytes(trained: list[tuple[str, nn.Parameter]], config: TrainingConfig) -> int:
    """Of moments: one of float32 for Muon, two for AdamW, or two of a byte each with their scales for its 8-bit kind,
    and AdamW's count of steps."""
    matrices, rest = matrices_and_rest(trained, config.optimizer)
    total = sum(4 * each.numel() for each in matrices)
    for each in rest:
        small = each.numel() < 4096  # which bitsandbytes keeps in 32 bits
        if config.optimizer.kind == ADAMW_8BIT and not small:
            total += 2 * each.numel() + 2 * 4 * -(-each.numel() // 256)
        else:
            total += 8 * each.numel() + (0 if config.optimizer.kind == ADAMW_8BIT else 4)
    return total


def _inputs(
    config: HarmonyConfig, shape: ClipShape, dtype: torch.dtype, follows: bool
) -> tuple[VideoInput, AudioInput]:
    """Of a row; `follows`: a reference. A transcript that is read across is as short as they come."""
    options: dict[str, Any] = {"device": "meta", "dtype": dtype}
    latents = torch.empty(1, *shape.video, **options), torch.empty(1, *shape.audio, **options)
    sigmas = torch.empty(1, shape.video[1], device="meta"), torch.empty(1, shape.audio[1], device="meta")
    text = torch.empty(1, config.text_len, config.text_dim, **options)
    picture = picture_before(latents[0]) if config.starts_from_picture else None
    reference = torch.empty(1, shape.audio[0], shape.reference, **options) if follows else None
    return VideoInput(latents[0], sigmas[0], text, picture), AudioInput(latents[1], sigmas[1], text, None, reference)


def _forward(transformer: HarmonyTransformer, shape: ClipShape, role: str) -> tuple[Tensor, ...]:
    dtype = transformer.patch_embedding.weight.dtype
    config = transformer.config
    follows = shape.reference > 0 and (role in uniavgen.LED or not config.starts_from_picture)
    if follows:
        role = role_with_voice(role, config)
    found = transformer(*_inputs(config, shape, dtype, follows), Rows((role,)))
    return tuple(each for each in found if each is not None)


@torch.no_grad()
def forward_flops(transformer: HarmonyTransformer, shape: ClipShape, role: str) -> int:
    """Of a row, as torch counts products of matrices and attention."""
    with FlopCounterMode(display=False) as counter:
        _forward(transformer, shape, role)
    return counter.get_total_flops()


@torch.no_grad()
def driver_flops(transformer: HarmonyTransformer, shape: ClipShape, role: str) -> int:
    """Of a driven row, those of its driver's blocks."""
    with FlopCounterMode(display=False) as counter:
        _forward(transformer, shape, role)
    blocks = "HarmonyTransformer.audio.blocks" if role == AUDIO_GIVEN else "HarmonyTransformer.blocks"
    counts = counter.get_flop_counts()
    return sum(flops for name, each in counts.items() if name.rpartition(".")[0] == blocks for flops in each.values())


def activation_bytes(transformer: HarmonyTransformer, shape: ClipShape, config: TrainingConfig) -> int:
    """What a joint row's gradients keep: all of it, or of every layer its inputs, and of one layer all of it."""
    model = transformer.to(getattr(torch, config.precision if config.precision == BFLOAT16 else "float32"))
    role = ISOLATED if config.objective.kind == AUDIO_ALONE else JOINT
    with kept_storages(model, inputs=config.activation_checkpointing) as kept:
        outputs = _forward(model, shape, role)
    del outputs
    outside = sum(kept.values())
    if not config.activation_checkpointing:
        return outside
    return outside + _one_layer(model, shape, role)


def _one_layer(model: HarmonyTransformer, shape: ClipShape, role: str) -> int:
    """What the largest layer keeps while it is computed again."""
    parts = [block for branch in model.branches for block in branch.blocks] + list(getattr(model, "interactions", ()))
    wrapped = [part.forward for part in parts]
    for part in parts:
        part.forward = part.forward.args[0]
    try:
        with kept_storages(model, inputs=False) as kept:
            _forward(model, shape, role)
    finally:
        for part, forward in zip(parts, wrapped, strict=True):
            part.forward = forward
    return sum(kept.values()) // model.config.num_layers


class WithoutScores(TorchFunctionMode):
    """Attention on the meta device as its kernels do it, which keep no scores of all pairs."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args)[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def kept_storages(model: nn.Module, inputs: bool) -> Iterator[dict[int, int]]:
    """Bytes of every storage that the graph keeps and that is no parameter; with `inputs` also of what enters a block
    or an interaction, which checkpointing keeps outside the graph."""
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no storage's number is given to another
    own = {each.untyped_storage()._cdata for each in (*model.parameters(), *model.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in kept and storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    def enter(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                keep(value)

    hooks = []
    if inputs:
        parts = [block for branch in getattr(model, "branches", ()) for block in branch.blocks]
        hooks = [
            part.register_forward_pre_hook(enter, with_kwargs=True)
            for part in [*parts, *getattr(model, "interactions", ())]
        ]
    with saved_tensors_hooks(keep, lambda tensor: tensor), WithoutScores():
        yield kept
    for hook in hooks:
        hook.remove()
