"""Flow-matching losses per modality and task, and their sum (paper 3.2.2, appendix B).

Legend: B rows, T latent positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion.latents import AVLatents
from ..model.roles import AUDIO_GIVEN, JOINT, VIDEO_GIVEN
from .config import ObjectiveConfig
from .tasks import NoisedBatch


def row_losses(predicted: AVLatents, batch: NoisedBatch) -> AVLatents:
    """Mean squared velocity error of each row over its generated positions. [B] each; 0 where nothing is generated."""

    def per_row(predicted: Tensor, target: Tensor, mask_BT: Tensor) -> Tensor:
        error_BT = (predicted.float() - target.float()).square().transpose(1, 2).flatten(2).mean(-1)
        return (error_BT * mask_BT).sum(1) / mask_BT.sum(1).clamp(min=1)

    return predicted.map(per_row, batch.velocity, batch.masks)


def objective_loss(
    losses: AVLatents, batch: NoisedBatch, objective: ObjectiveConfig
) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum, and each task's own losses for the log.

    three_pass: L_joint + lambda_v * L_audio-driven + lambda_a * L_video-driven.
    split_batch: the mean over the rows that generate each modality.
    """
    parts: dict[str, Tensor] = {}
    for name, role in (("joint", JOINT), ("audio_driven", AUDIO_GIVEN), ("video_driven", VIDEO_GIVEN)):
        rows = torch.tensor([row for row, each in enumerate(batch.roles) if each == role], dtype=torch.long)
        if len(rows) == 0:
            continue
        if role != VIDEO_GIVEN:
            parts[f"{name}/video"] = losses.video[rows]
        if role != AUDIO_GIVEN:
            parts[f"{name}/audio"] = losses.sound[rows]
    if objective.kind == "three_pass":
        weights = {"audio_driven/video": objective.lambda_v, "video_driven/audio": objective.lambda_a}
        terms = [weights.get(name, 1.0) * part.mean() for name, part in parts.items()]
    else:
        terms = [
            torch.cat([part for name, part in parts.items() if name.endswith(modality)]).mean()
            for modality in ("video", "audio")
        ]
    return sum(terms[1:], terms[0]), {name: float(part.detach().mean()) for name, part in parts.items()}
