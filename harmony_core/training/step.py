"""One step of training: what is drawn for it, and its loss.

Everything is drawn for the whole batch and follows from the seed and the step, so that neither the number of processes
nor a stop between two steps changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import TrainingConfig
from .data.batch import ClipBatch, Voice, process_rows
from .data.loader import Batches
from .losses import objective_loss, row_losses
from .start import TrainedModel
from .tasks import Levels, TaskRow, draw_levels, kept_texts, noise_rows, seed_of, task_rows

VALIDATION = 1  # sets the draws of a validation loss apart from those of training


@dataclass(frozen=True)
class StepDraws:
    """What a step draws for the whole batch: its rows, their levels, and whether each clip keeps its texts."""

    step: int
    rows: list[TaskRow]
    levels: Levels
    kept: Tensor


def draw_step(config: TrainingConfig, batches: Batches, step: int, shown: ClipBatch) -> StepDraws:
    """The draws of a step. `shown` is this process's share of its clips, which all have the same lengths."""
    generator = torch.Generator().manual_seed(seed_of(config.seed, step))
    present = batches.present(step)
    rows = task_rows(present, config.objective)
    kept = kept_texts(len(present), config.objective, generator)
    lengths = shown.clean.video.shape[2], shown.clean.sound.shape[2]
    return StepDraws(step, rows, draw_levels(rows, *lengths, config.objective, generator), kept)


def step_losses(
    config: TrainingConfig,
    model: TrainedModel,
    batches: Batches,
    shown: ClipBatch,
    step: int,
    device: torch.device,
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """The loss of this process's share of a batch, and its parts, in `config.accumulation` parts that add up to it.

    Summed over the processes they are those of the whole batch.
    """
    draws = draw_step(config, batches, step, shown)
    own = process_rows(batches.batch_size, batches.rank, batches.world)
    places = [place for place, row in enumerate(draws.rows) if row.clip in own]
    empty = batches.shards.empty_text()
    for part in range(config.accumulation):
        taken = places[part :: config.accumulation]
        if not taken:  # of three passes, a clip that lacks a modality has one
            continue
        rows = [draws.rows[place] for place in taken]
        clips = [own.index(row.clip) for row in rows]
        seeds = [seed_of(config.seed, step, place) for place in taken]
        clean = shown.clean.map(lambda x, clips=clips: x[clips])
        batch = noise_rows(clean, draws.rows, draws.levels, taken, seeds).to(device)
        kept = draws.kept[[row.clip for row in rows]]
        texts = [_texts(each[clips], kept, empty) for each in (shown.video_text, shown.audio_text)]
        transcript = None if shown.transcript is None else shown.transcript[clips] * kept.unsqueeze(1)
        reference = None if shown.reference is None else shown.reference[clips]
        voices = tuple(_moved(shown.voices[clip], device) for clip in clips) if shown.voices else ()
        moved = [None if each is None else each.to(device) for each in (*texts, transcript, reference)]
        losses = row_losses(model(batch, *moved, voices=voices), batch)
        yield objective_loss(losses, rows, config.objective, draws.rows)


def _moved(voice: Voice | None, device: torch.device) -> Voice | None:
    return None if voice is None else Voice(*(x.to(device) for x in voice))


def _texts(texts: Tensor, kept: Tensor, empty: Tensor) -> Tensor:
    """Features [B, S, D] or ids [B, S], of rows that lose their text those of none."""
    nothing = torch.zeros_like(texts[0])
    nothing[: len(empty)] = empty
    return torch.where(kept.view(-1, *[1] * (texts.ndim - 1)), texts, nothing)
