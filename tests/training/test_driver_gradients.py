"""What a driven task teaches: the driver's own output never, what the other stream reads of it always."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harmony_core.diffusion.latents import AVLatents
from harmony_core.model.inputs import AudioInput, Rows, VideoInput
from harmony_core.model.roles import AUDIO_GIVEN, JOINT, VIDEO_GIVEN
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


def velocities_and_gradients(
    roles: tuple[str, ...], rows: slice, stop: bool, cut: str = ""
) -> tuple[AVLatents, dict[str, torch.Tensor]]:
    """Of one row of each role, some of them, and a loss over what each generates. `cut`: the branch whose tokens are
    detached by hand behind every half of a block."""
    config = small_config()
    model, values = random_model(config), inputs(config, batch=len(roles))
    if cut:
        for block in (model.audio if cut == "audio" else model).blocks:
            block.register_forward_hook(lambda _module, _args, out: out.detach())
    taken = {name: value[rows] for name, value in values.items()}
    video = VideoInput(taken["video"], taken["sigma_video"], taken["video_context"])
    reference = taken["reference_audio"]
    audio = AudioInput(taken["audio"], taken["sigma_audio"], taken["audio_context"], taken["transcript"], reference)
    found = AVLatents(*model(video, audio, Rows(roles[rows], stop_drivers=stop)))
    loss = torch.zeros(())
    for row, role in enumerate(roles[rows]):
        loss = loss + (found.video[row].square().mean() if role != VIDEO_GIVEN else 0)
        loss = loss + (found.sound[row].square().mean() if role != AUDIO_GIVEN else 0)
    loss.backward()
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return found.map(torch.Tensor.detach), gradients


@pytest.mark.parametrize(("role", "driver"), [(AUDIO_GIVEN, "audio"), (VIDEO_GIVEN, "video")])
def test_gradients_end_where_a_stopped_driver_is_read(role: str, driver: str) -> None:
    """Equal to the model whose driver's tokens are detached by hand; what reads them still learns."""
    (found, stopped), (exact, by_hand) = (
        velocities_and_gradients((role,), slice(None), stop, "" if stop else driver) for stop in (True, False)
    )
    assert torch.equal(found.video, exact.video)
    assert torch.equal(found.sound, exact.sound)
    own = "audio." if driver == "audio" else "blocks."
    assert not any(each.any() for name, each in stopped.items() if name.startswith(own) and ".head." not in name)
    reader = "interactions.1.a2v.k.weight" if driver == "audio" else "interactions.1.v2a.k.weight"
    assert stopped[reader].any()
    for name in stopped | by_hand:
        found_here, found_there = (each.get(name, torch.zeros(1)) for each in (stopped, by_hand))
        torch.testing.assert_close(found_here, found_there.expand_as(found_here), atol=1e-6, rtol=1e-5)


def test_rows_with_stopped_drivers_leave_the_others_as_they_are() -> None:
    """In one batch, in any order: the sum of what each row gives alone."""
    roles = (AUDIO_GIVEN, JOINT, VIDEO_GIVEN, JOINT)
    together, gradients = velocities_and_gradients(roles, slice(None), stop=True)
    summed: dict[str, torch.Tensor] = {}
    for row, role in enumerate(roles):
        alone, parts = velocities_and_gradients(roles, slice(row, row + 1), stop=role != JOINT)
        torch.testing.assert_close(together.video[row], alone.video[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.sound[row], alone.sound[0], atol=1e-5, rtol=1e-5)
        for name, each in parts.items():
            summed[name] = summed.get(name, 0) + each
    for name, each in gradients.items():
        torch.testing.assert_close(each, summed[name], atol=1e-5, rtol=1e-4)
