"""Flow-matching losses per modality and task, and their sum (paper 3.2.2, appendix B).

Legend: B rows, T latent positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..diffusion.latents import AVLatents
from .sections import THREE_PASS, ObjectiveConfig
from .tasks import TASKS, NoisedBatch, TaskRow


def row_losses(predicted: AVLatents, batch: NoisedBatch) -> AVLatents:
    """Mean squared velocity error of each row over its generated positions. [B] each; 0 where nothing is generated."""

    def per_row(predicted: Tensor, target: Tensor, mask_BT: Tensor) -> Tensor:
        error_BT = (predicted.float() - target.float()).square().transpose(1, 2).flatten(2).mean(-1)
        return (error_BT * mask_BT).sum(1) / mask_BT.sum(1).clamp(min=1)

    return predicted.map(per_row, batch.velocity, batch.masks)


def objective_loss(
    losses: AVLatents, rows: Sequence[TaskRow], objective: ObjectiveConfig, whole: Sequence[TaskRow]
) -> tuple[Tensor, dict[str, Tensor]]:
    """This share of a batch's loss, and of each task's own losses for the log.

    three_pass: L_joint + lambda_v * L_audio-driven + lambda_a * L_video-driven, each modality of L_joint being the mean
    over its joint rows and those of clips that lack the other.
    Others: of each modality the mean over the rows that generate it.

    Args:
        losses: of `rows`, [B] each.
        whole: the rows of the whole batch. Sums over own rows are divided by its counts, so that the shares of all
            processes add up to what one process would get.
    """
    weights: dict[str, float] = {}
    if objective.kind == THREE_PASS:
        weights = {"audio_driven/video": objective.lambda_v, "video_driven/audio": objective.lambda_a}
    parts: dict[str, tuple[Tensor, int]] = {}
    for modality, values in (("video", losses.video), ("audio", losses.sound)):
        for name, role in TASKS.items():
            count = sum(row.role == role and getattr(row, modality) for row in whole)
            own = [index for index, row in enumerate(rows) if row.role == role and getattr(row, modality)]
            if count:
                parts[f"{name}/{modality}"] = values[torch.tensor(own, dtype=torch.long)].sum(), count
    terms = [weights[name] * parts[name][0] / parts[name][1] for name in weights if name in parts]
    for modality in ("video", "audio"):
        found = [part for name, part in parts.items() if name.endswith(modality) and name not in weights]
        if found:
            terms.append(torch.stack([total for total, _ in found]).sum() / sum(count for _, count in found))
    return torch.stack(terms).sum(), {name: total.detach() / count for name, (total, count) in parts.items()}
