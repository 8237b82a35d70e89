"""What a driven task teaches: the driver's own output never, what the other stream reads of it always."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harmony_core.diffusion.latents import AVLatents
from harmony_core.model.inputs import AudioInput, Rows, VideoInput
from harmony_core.model.roles import AUDIO_GIVEN, VIDEO_GIVEN
from harmony_core.training.losses import objective_loss, row_losses
from harmony_core.training.sections import ObjectiveConfig
from harmony_core.training.tasks import TaskRow, draw_levels, noise_rows
from tests.model.test_transformer import inputs, random_model, small_config


def moved(module: nn.Module) -> bool:
    """Whether any of its parameters has a gradient that is not zero."""
    return any(each.grad is not None and bool(each.grad.any()) for each in module.parameters())


@pytest.mark.parametrize("kind", ["three_pass", "split_batch"])
@pytest.mark.parametrize("role", [AUDIO_GIVEN, VIDEO_GIVEN])
def test_a_drivers_head_learns_nothing_and_its_first_layer_does(role: str, kind: str) -> None:
    config, objective = small_config(), ObjectiveConfig(kind=kind, audio_driven_share=1, video_driven_share=0)
    model, values = random_model(config), inputs(config, batch=2)
    clean = AVLatents(values["video"], values["audio"])
    rows = [TaskRow(clip, role, role == AUDIO_GIVEN, role == VIDEO_GIVEN) for clip in range(2)]
    lengths = clean.video.shape[2], clean.sound.shape[2]
    levels = draw_levels(rows, *lengths, objective, torch.Generator().manual_seed(0))
    batch = noise_rows(clean, rows, levels, range(2), range(2))
    video = VideoInput(batch.noisy.video, batch.sigmas.video, values["video_context"])
    audio = AudioInput(batch.noisy.sound, batch.sigmas.sound, values["audio_context"], values["transcript"])
    losses = row_losses(AVLatents(*model(video, audio, Rows(batch.roles))), batch)
    loss, _ = objective_loss(losses, rows, objective, rows)
    loss.backward()
    driver, driven = (model.audio, model) if role == AUDIO_GIVEN else (model, model.audio)
    assert not moved(driver.head)
    assert not moved(driver.blocks[-1].ffn)  # behind its last keys and values
    assert moved(driver.blocks[0].self_attn)
    assert moved(driven.head)
