"""Flow-matching losses per modality and task, and their sum (paper 3.2.2, appendix B).

Legend: B rows, T latent positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion.latents import AVLatents
from ..model.roles import AUDIO_GIVEN, VIDEO_GIVEN
from .config import ObjectiveConfig
from .tasks import TASKS, NoisedBatch


def row_losses(predicted: AVLatents, batch: NoisedBatch) -> AVLatents:
    """Mean squared velocity error of each row over its generated positions. [B] each; 0 where nothing is generated."""

    def per_row(predicted: Tensor, target: Tensor, mask_BT: Tensor) -> Tensor:
        error_BT = (predicted.float() - target.float()).square().transpose(1, 2).flatten(2).mean(-1)
        return (error_BT * mask_BT).sum(1) / mask_BT.sum(1).clamp(min=1)

    return predicted.map(per_row, batch.velocity, batch.masks)


def objective_loss(
    losses: AVLatents, roles: tuple[str, ...], objective: ObjectiveConfig, whole: tuple[str, ...]
) -> tuple[Tensor, dict[str, Tensor]]:
    """This process's share of a batch's loss, and of each task's own losses for the log.

    three_pass: L_joint + lambda_v * L_audio-driven + lambda_a * L_video-driven.
    split_batch: the mean over the rows that generate each modality.

    Args:
        losses: of the rows that this process runs, [B] each; `roles` are theirs.
        whole: roles of the whole batch. Sums over own rows are divided by its counts, so that the shares of all
            processes add up to what one process would get.
    """
    parts: dict[str, tuple[Tensor, int]] = {}
    for name, role in TASKS.items():
        rows = torch.tensor([row for row, each in enumerate(roles) if each == role], dtype=torch.long)
        count = whole.count(role)
        if count and role != VIDEO_GIVEN:
            parts[f"{name}/video"] = losses.video[rows].sum(), count
        if count and role != AUDIO_GIVEN:
            parts[f"{name}/audio"] = losses.sound[rows].sum(), count
    if objective.kind == "three_pass":
        weights = {"audio_driven/video": objective.lambda_v, "video_driven/audio": objective.lambda_a}
        terms = [weights.get(name, 1.0) * total / count for name, (total, count) in parts.items()]
    else:
        terms = []
        for modality in ("video", "audio"):
            found = [part for name, part in parts.items() if name.endswith(modality)]
            if found:
                terms.append(torch.stack([total for total, _ in found]).sum() / sum(count for _, count in found))
    return torch.stack(terms).sum(), {name: total.detach() / count for name, (total, count) in parts.items()}
