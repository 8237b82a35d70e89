"""Tasks of a step: which clip runs as what, what is noised, what is given (paper 3.2.2).

Everything that is the same for all processes is drawn for the whole batch from the step's generator; the noise of a row
has a generator of its own, so that a process draws no more than it runs.

Legend: B rows, T_v / T_a latent frames / audio latents.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..diffusion.flow import add_noise, shift_sigma
from ..diffusion.latents import AVLatents
from ..model.roles import AUDIO_GIVEN, ISOLATED, JOINT, VIDEO_GIVEN
from .config import TrainingConfig
from .data.batch import process_rows
from .sections import AUDIO_ALONE, SPLIT_BATCH, THREE_PASS, ObjectiveConfig

# Named for the clean side; `alone` is a clip that lacks the other modality, or whose other is not trained.
TASKS = {"joint": JOINT, "audio_driven": AUDIO_GIVEN, "video_driven": VIDEO_GIVEN, "alone": ISOLATED}
PASSES = JOINT, AUDIO_GIVEN, VIDEO_GIVEN  # of `three_pass`


class TaskRow(NamedTuple):
    """What a row of the transformer's batch is: which clip of the whole batch, its role, and what it generates."""

    clip: int
    role: str
    video: bool
    audio: bool


def task_rows(present: Sequence[tuple[bool, bool]], objective: ObjectiveConfig) -> list[TaskRow]:
    """The rows of a whole batch, tasks together. `present`: whether each clip has pictures, and sound.

    A clip that lacks one of them is isolated and teaches the other.
    """
    whole = [clip for clip, each in enumerate(present) if each == (True, True)]
    parts = [TaskRow(clip, ISOLATED, *each) for clip, each in enumerate(present) if each != (True, True)]
    if objective.kind == AUDIO_ALONE:
        return [TaskRow(clip, ISOLATED, False, True) for clip, (_, sound) in enumerate(present) if sound]
    if objective.kind == THREE_PASS:
        roles = [(role, clip) for role in PASSES for clip in whole]
    else:
        roles = list(zip(split_roles(len(whole), objective), whole, strict=True))
    return [TaskRow(clip, role, role != VIDEO_GIVEN, role != AUDIO_GIVEN) for role, clip in roles] + parts


def split_roles(batch: int, objective: ObjectiveConfig) -> tuple[str, ...]:
    """One role a row: the driven shares rounded to whole rows, the rest joint."""
    audio_driven = round(batch * objective.audio_driven_share)
    video_driven = min(round(batch * objective.video_driven_share), batch - audio_driven)
    joint = batch - audio_driven - video_driven
    return (JOINT,) * joint + (AUDIO_GIVEN,) * audio_driven + (VIDEO_GIVEN,) * video_driven


@dataclass(frozen=True)
class NoisedBatch:
    """What the transformer sees of a batch, and what it should answer.

    `masks` are per latent position, [B, T_v] and [B, T_a] (1 = generate); `velocity` is the target.
    """

    roles: tuple[str, ...]
    noisy: AVLatents
    sigmas: AVLatents
    masks: AVLatents
    velocity: AVLatents

    def to(self, device: torch.device) -> NoisedBatch:
        tensors = {name: value.map(lambda x: x.to(device)) for name, value in vars(self).items() if name != "roles"}
        return NoisedBatch(self.roles, **tensors)


@dataclass(frozen=True)
class Levels:
    """The noise level of each row, [B], and what of it is generated: masks [B, T_v] and [B, T_a]."""

    level: Tensor
    masks: AVLatents


def draw_levels(
    rows: Sequence[TaskRow],
    num_latent_frames: int,
    num_audio_latents: int,
    objective: ObjectiveConfig,
    generator: torch.Generator,
) -> Levels:
    """Noise levels (stratified over the whole batch, shifted) and masks of its rows."""
    count = len(rows)
    strata = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    masks = AVLatents(torch.ones(count, num_latent_frames), torch.ones(count, num_audio_latents))
    _give_parts(masks, objective, generator)
    for index, row in enumerate(rows):
        masks.video[index] *= row.video
        masks.sound[index] *= row.audio
    return Levels(shift_sigma(strata, objective.shift), masks)


def _give_parts(masks: AVLatents, objective: ObjectiveConfig, generator: torch.Generator) -> None:
    """First-frame conditioning and given prefixes, on random rows."""
    batch, num_latent_frames = masks.video.shape
    draw = torch.rand(batch, generator=generator)
    share = torch.rand(batch, generator=generator) * 0.5 + 0.15
    for row in range(batch):
        if draw[row] < objective.first_frame_share:
            masks.video[row, 0] = 0
        elif draw[row] < objective.first_frame_share + objective.prefix_share:
            masks.video[row, : max(1, round(float(share[row]) * num_latent_frames))] = 0
            masks.sound[row, : round(float(share[row]) * masks.sound.shape[1])] = 0


def noise_rows(
    clean: AVLatents, rows: Sequence[TaskRow], levels: Levels, places: Sequence[int], seeds: Sequence[int]
) -> NoisedBatch:
    """Some rows of a batch, noised.

    Args:
        clean: of these rows.
        rows: of the whole batch, as are `levels`; `places` are these rows' places in both.
        seeds: of each row's noise with, video first, then audio.
    """
    drawn = []
    for video, sound, seed in zip(clean.video, clean.sound, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        drawn.append([torch.randn(x.shape, generator=generator) for x in (video, sound)])
    noise = AVLatents(*(torch.stack(column) for column in zip(*drawn, strict=True)))
    own = list(places)
    masks = levels.masks.map(lambda mask: mask[own])
    sigmas = masks.map(lambda mask: mask * levels.level[own].unsqueeze(1))
    spread = AVLatents(sigmas.video[:, None, :, None, None], sigmas.sound[:, None])
    return NoisedBatch(
        tuple(rows[place].role for place in own),
        clean.map(add_noise, noise, spread),
        sigmas,
        masks,
        clean.map(lambda clean, noise: noise - clean, noise),
    )


def seed_of(*numbers: int) -> int:
    """One seed of several numbers, far from that of any others."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def check_batch(config: TrainingConfig, processes: int) -> None:
    """Whether `processes` can share a batch.

    Raises:
        ValueError: not evenly, or so that a task with a share of the clips gets none, or a process nothing of video or
            of sound to learn.
    """
    if config.batch_size % processes:
        raise ValueError(
            f"batch_size is {config.batch_size}, which {processes} processes cannot share evenly; choose a multiple."
        )
    # With others each part needs a clip of its own, so that all reach the same weights.
    rows = len(PASSES) if config.objective.kind == THREE_PASS and processes == 1 else 1
    most = rows * (config.batch_size // processes)
    if most < config.accumulation:
        raise ValueError(
            f"accumulation is {config.accumulation}, but a batch of {config.batch_size} has at most {most} parts in "
            f"each of {processes} process(es); lower it, or raise batch_size."
        )
    if config.objective.kind != SPLIT_BATCH:
        return
    if config.accumulation > 1 and processes > 1:
        _check_parts(config, processes)
    what = _absent(config.batch_size, config.objective, processes)
    if what:
        enough = next(
            more
            for more in itertools.count(config.batch_size + processes, processes)
            if not _absent(more, config.objective, processes)
        )
        raise ValueError(
            f"batch_size is {config.batch_size}, shared by {processes} process(es), and the objective's {what} of "
            f"those rounds to none; raise batch_size to {enough}, or change objective.audio_driven_share and "
            "video_driven_share."
        )


def _check_parts(config: TrainingConfig, processes: int) -> None:
    """Whether every part of a process's rows reaches all weights, as processes that share them need it."""
    roles = split_roles(config.batch_size, config.objective)
    own = (process_rows(config.batch_size, rank, processes) for rank in range(processes))
    fewest = min(sum(roles[row] == JOINT for row in rows) for rows in own)
    if fewest < config.accumulation:
        raise ValueError(
            f"accumulation is {config.accumulation}, but one of {processes} processes has only {fewest} joint clips "
            "of a batch, and a part without one does not reach all weights; lower it, or raise batch_size."
        )


def _absent(batch: int, objective: ObjectiveConfig, processes: int) -> str:
    """A task's share that has no row of a batch, or what a process's rows never generate; else ""."""
    audio_driven, video_driven = objective.audio_driven_share, objective.video_driven_share
    joint = round(1 - audio_driven - video_driven, 9)  # 0 where the two are written as decimals that add up to 1
    roles = split_roles(batch, objective)
    shares = {"joint": joint, "audio_driven": audio_driven, "video_driven": video_driven}
    for task, share in shares.items():
        if share and TASKS[task] not in roles:
            return f"{task} share"
    for rank in range(processes):
        own = {roles[row] for row in process_rows(batch, rank, processes)}
        for given, modality in ((VIDEO_GIVEN, "video"), (AUDIO_GIVEN, "audio")):
            if own == {given} and set(roles) != own:
                return f"share of rows that generate {modality} in process {rank}"
    return ""


def kept_texts(clips: int, objective: ObjectiveConfig, generator: torch.Generator) -> Tensor:
    """Of which clips the texts are kept, all together; the others lose theirs, for classifier-free guidance. [B]."""
    return torch.rand(clips, generator=generator) >= objective.text_dropout
