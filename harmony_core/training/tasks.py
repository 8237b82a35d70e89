"""Tasks of a batch: which latents are noised, which are given, which stream drives (paper 3.2.2).

Legend: B rows, T_v / T_a latent frames / audio latents.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.flow import add_noise, shift_sigma
from ..diffusion.latents import AVLatents
from ..model.roles import AUDIO_GIVEN, JOINT, VIDEO_GIVEN
from .config import ObjectiveConfig, TrainingConfig

TASKS = {"joint": JOINT, "audio_driven": AUDIO_GIVEN, "video_driven": VIDEO_GIVEN}  # named for the clean side


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

    def take(self, rows: list[int]) -> NoisedBatch:
        tensors = {name: value.map(lambda x: x[rows]) for name, value in vars(self).items() if name != "roles"}
        return NoisedBatch(tuple(self.roles[row] for row in rows), **tensors)

    def to(self, device: torch.device) -> NoisedBatch:
        tensors = {name: value.map(lambda x: x.to(device)) for name, value in vars(self).items() if name != "roles"}
        return NoisedBatch(self.roles, **tensors)


def split_roles(batch: int, objective: ObjectiveConfig) -> tuple[str, ...]:
    """One role a row: the driven shares rounded to whole rows, the rest joint."""
    audio_driven = round(batch * objective.audio_driven_share)
    video_driven = min(round(batch * objective.video_driven_share), batch - audio_driven)
    joint = batch - audio_driven - video_driven
    return (JOINT,) * joint + (AUDIO_GIVEN,) * audio_driven + (VIDEO_GIVEN,) * video_driven


def process_rows(count: int, rank: int, processes: int) -> list[int]:
    """Which of a whole batch's rows one process runs: every `processes`-th, so that each gets some of every task."""
    return list(range(rank, count, processes))


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
    if config.objective.kind != "split_batch":
        return
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


def three_pass_roles(batch: int) -> tuple[str, ...]:
    """Roles for the same clips three times over."""
    return (JOINT,) * batch + (AUDIO_GIVEN,) * batch + (VIDEO_GIVEN,) * batch


def noise_batch(
    clean: AVLatents, roles: tuple[str, ...], objective: ObjectiveConfig, generator: torch.Generator
) -> NoisedBatch:
    """Draw noise levels (stratified over the batch, shifted) and noise: video first, then audio."""
    batch, num_latent_frames, num_audio = len(clean.video), clean.video.shape[2], clean.sound.shape[2]
    strata = (torch.randperm(batch, generator=generator) + torch.rand(batch, generator=generator)) / batch
    level = shift_sigma(strata, objective.shift)
    masks = AVLatents(torch.ones(batch, num_latent_frames), torch.ones(batch, num_audio))
    _give_parts(masks, objective, generator)
    for row, role in enumerate(roles):
        if role == AUDIO_GIVEN:
            masks.sound[row] = 0
        elif role == VIDEO_GIVEN:
            masks.video[row] = 0
    noise = clean.map(lambda x: torch.randn(x.shape, generator=generator).to(x))
    sigmas = masks.map(lambda mask: mask * level.unsqueeze(1))
    spread = AVLatents(sigmas.video[:, None, :, None, None], sigmas.sound[:, None])
    return NoisedBatch(
        roles,
        clean.map(add_noise, noise, spread),
        sigmas,
        masks,
        clean.map(lambda clean, noise: noise - clean, noise),
    )


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


def reference_length(objective: ObjectiveConfig, generator: torch.Generator) -> int:
    """Reference latents of this batch; 0 = none. One length a batch, so that no row needs a mask."""
    if torch.rand((), generator=generator) >= objective.reference_share:
        return 0
    shortest, longest = objective.reference_latents
    return int(torch.randint(shortest, longest + 1, (), generator=generator))


def drop_text(ids: tuple[Tensor, ...], objective: ObjectiveConfig, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Blank all texts of random rows (ids 0), for classifier-free guidance."""
    kept = torch.rand(len(ids[0]), generator=generator) >= objective.text_dropout
    return tuple(each * kept.unsqueeze(1) for each in ids)
