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

    def to(self, device: torch.device) -> NoisedBatch:
        tensors = {name: value.map(lambda x: x.to(device)) for name, value in vars(self).items() if name != "roles"}
        return NoisedBatch(self.roles, **tensors)


def split_roles(batch: int, objective: ObjectiveConfig) -> tuple[str, ...]:
    """One role a row: the driven shares rounded to whole rows, the rest joint."""
    audio_driven = round(batch * objective.audio_driven_share)
    video_driven = min(round(batch * objective.video_driven_share), batch - audio_driven)
    joint = batch - audio_driven - video_driven
    return (JOINT,) * joint + (AUDIO_GIVEN,) * audio_driven + (VIDEO_GIVEN,) * video_driven


def check_batch(config: TrainingConfig, processes: int) -> None:
    """Whether `processes` can share a batch.

    Raises:
        ValueError: not evenly, or so that a task with a share of the clips gets none of a process's.
    """
    if config.batch_size % processes:
        raise ValueError(
            f"batch_size is {config.batch_size}, which {processes} processes cannot share evenly; choose a multiple."
        )
    if config.objective.kind != "split_batch":
        return
    rows = config.batch_size // processes
    absent = _absent(rows, config.objective)
    if absent:
        enough = next(more for more in itertools.count(rows + 1) if not _absent(more, config.objective))
        raise ValueError(
            f"batch_size is {config.batch_size}, of which {processes} process(es) get {rows} clips each, and the "
            f"objective's {absent[0]} share of those rounds to none; raise batch_size to {enough * processes}, or "
            "change objective.audio_driven_share and video_driven_share."
        )


def _absent(batch: int, objective: ObjectiveConfig) -> list[str]:
    """Tasks that have a share, but no row of a batch."""
    audio_driven, video_driven = objective.audio_driven_share, objective.video_driven_share
    joint = round(1 - audio_driven - video_driven, 9)  # 0 where the two are written as decimals that add up to 1
    roles = split_roles(batch, objective)
    shares = {"joint": joint, "audio_driven": audio_driven, "video_driven": video_driven}
    return [task for task, share in shares.items() if share and TASKS[task] not in roles]


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
