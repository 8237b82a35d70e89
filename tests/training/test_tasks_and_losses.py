"""Cross-Task Synergy: what each task noises, and what each loss weighs."""

from __future__ import annotations

import pytest
import torch

from harmony_core.diffusion.latents import AVLatents
from harmony_core.training.config import ObjectiveConfig, TrainingConfig
from harmony_core.training.losses import objective_loss, row_losses
from harmony_core.training.tasks import (
    check_batch,
    drop_text,
    noise_batch,
    process_rows,
    reference_length,
    split_roles,
    three_pass_roles,
)

NO_PARTS = {"first_frame_share": 0.0, "prefix_share": 0.0}


def batch_of(roles, objective: ObjectiveConfig, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    clean = AVLatents(
        torch.randn(len(roles), 2, 3, 2, 2, generator=generator), torch.randn(len(roles), 4, 5, generator=generator)
    )
    return clean, noise_batch(clean, roles, objective, torch.Generator().manual_seed(seed + 1))


def test_the_driver_of_a_row_is_clean_and_its_noise_level_zero():
    clean, batch = batch_of(three_pass_roles(2), ObjectiveConfig(**NO_PARTS))
    assert batch.roles == ("joint",) * 2 + ("audio_given",) * 2 + ("video_given",) * 2
    assert torch.equal(batch.noisy.audio[2:4], clean.audio[2:4])
    assert torch.equal(batch.noisy.video[4:], clean.video[4:])
    assert batch.sigmas.audio[2:4].abs().max() == 0
    assert batch.sigmas.video[4:].abs().max() == 0
    for row in (0, 1):
        assert batch.sigmas.video[row].unique() == batch.sigmas.audio[row].unique(), "joint rows share one level"
        assert (batch.noisy.video[row] - clean.video[row]).abs().max() > 1e-3


def test_noisy_minus_sigma_velocity_is_clean():
    clean, batch = batch_of(("joint",) * 4, ObjectiveConfig(first_frame_share=0.5, prefix_share=0.5))
    sigma = batch.sigmas.video[:, None, :, None, None]
    torch.testing.assert_close(batch.noisy.video - sigma * batch.velocity.video, clean.video, atol=1e-5, rtol=1e-5)


def test_first_frames_and_prefixes_are_given_and_carry_no_loss():
    clean, batch = batch_of(("joint",) * 6, ObjectiveConfig(first_frame_share=1.0, prefix_share=0.0))
    assert torch.equal(batch.noisy.video[:, :, 0], clean.video[:, :, 0])
    wrong_there = batch.velocity.map(torch.clone)
    wrong_there.video[:, :, 0] += 100
    assert row_losses(wrong_there, batch).video.abs().max() == 0


def test_row_losses_are_means_over_generated_positions():
    _, batch = batch_of(("joint", "audio_given", "video_given"), ObjectiveConfig(**NO_PARTS))
    predicted = batch.velocity.map(lambda x: x + 2)
    losses = row_losses(predicted, batch)
    torch.testing.assert_close(losses.video, torch.tensor([4.0, 4.0, 0.0]))
    torch.testing.assert_close(losses.audio, torch.tensor([4.0, 0.0, 4.0]))


def test_three_pass_objective_is_the_papers_sum():
    objective = ObjectiveConfig(**NO_PARTS)
    _, batch = batch_of(three_pass_roles(1), objective)
    video, audio = torch.tensor([1.0, 10.0, 0.0]), torch.tensor([2.0, 0.0, 20.0])
    total, parts = objective_loss(AVLatents(video, audio), batch.roles, objective, batch.roles)
    assert float(total) == pytest.approx(1 + 2 + 0.1 * 10 + 0.3 * 20)
    assert parts == {"joint/video": 1, "joint/audio": 2, "audio_driven/video": 10, "video_driven/audio": 20}


def test_split_batch_shares_and_mean():
    objective = ObjectiveConfig(kind="split_batch", audio_driven_share=0.25, video_driven_share=0.25, **NO_PARTS)
    roles = split_roles(8, objective)
    assert [roles.count(role) for role in ("joint", "audio_given", "video_given")] == [4, 2, 2]
    _, batch = batch_of(roles, objective)
    losses = row_losses(batch.velocity.map(lambda x: x + 1), batch)
    assert float(objective_loss(losses, roles, objective, roles)[0]) == pytest.approx(2.0)


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["split_batch", "three_pass"])
def test_shares_of_processes_add_up_to_the_whole(kind: str, processes: int):
    objective = ObjectiveConfig(kind=kind, audio_driven_share=0.25, video_driven_share=0.125, **NO_PARTS)
    roles = split_roles(12, objective) if kind == "split_batch" else three_pass_roles(12)
    losses = AVLatents(torch.rand(len(roles)), torch.rand(len(roles)))
    whole, parts = objective_loss(losses, roles, objective, roles)
    totals, rows = 0.0, []
    shares = dict.fromkeys(parts, 0.0)
    for rank in range(processes):
        own = process_rows(len(roles), rank, processes)
        rows += own
        loss, mine = objective_loss(
            losses.map(lambda x, own=own: x[own]), tuple(roles[row] for row in own), objective, roles
        )
        totals += loss
        shares = {name: shares[name] + mine[name] for name in shares}
    assert sorted(rows) == list(range(len(roles)))
    torch.testing.assert_close(totals, whole)
    assert {name: pytest.approx(float(value)) for name, value in parts.items()} == {
        name: float(value) for name, value in shares.items()
    }


def config_of(batch_size: int, audio_driven: float, video_driven: float, kind: str = "split_batch") -> TrainingConfig:
    objective = ObjectiveConfig(kind=kind, audio_driven_share=audio_driven, video_driven_share=video_driven)
    return TrainingConfig(preset="harmony-tiny", steps=1, batch_size=batch_size, objective=objective)


@pytest.mark.parametrize(
    ("batch_size", "processes", "shares", "message"),
    [
        (4, 2, (0.1, 0.1), r"batch_size is 4, shared by 2 .* audio_driven share .* to 6, or"),
        (16, 8, (0.95, 0.05), r"share of rows that generate audio in process 0 .* to 152, or"),
        (100, 1, (0.0, 0.005), r"video_driven share .* raise batch_size to 101, or"),
        (2, 1, (0.3, 0.3), r"joint share .* raise batch_size to 3, or"),
        (3, 2, (0.25, 0.25), r"batch_size is 3, which 2 processes cannot share evenly"),
    ],
)
def test_a_share_that_comes_to_no_row_is_an_error(batch_size: int, processes: int, shares: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        check_batch(config_of(batch_size, *shares), processes)


def test_batches_that_can_be_shared():
    for processes in (1, 2, 4, 8):  # the shipped config
        check_batch(config_of(16, 0.125, 0.125), processes)
    check_batch(config_of(20, 0.125, 0.125), 4)
    check_batch(config_of(1, 0.0, 0.0), 1)
    check_batch(config_of(1, 0.125, 0.125, kind="three_pass"), 1)
    check_batch(config_of(10, 0.9, 0.1), 1)


def test_roles_are_as_many_as_rows():
    assert len(split_roles(3, ObjectiveConfig(audio_driven_share=0.5, video_driven_share=0.5))) == 3


def test_reference_and_text_dropout_happen_at_their_shares():
    generator = torch.Generator().manual_seed(0)
    lengths = [reference_length(ObjectiveConfig(), generator) for _ in range(400)]
    with_reference = [length for length in lengths if length]
    assert 0.42 < len(with_reference) / 400 < 0.58
    assert set(with_reference) == {8, 9, 10, 11, 12}
    ids = torch.ones(1000, 3, dtype=torch.long)
    one, other = drop_text((ids, ids), ObjectiveConfig(), generator)
    assert torch.equal(one, other), "all texts of a row are dropped together"
    assert 0.06 < float((one[:, 0] == 0).float().mean()) < 0.14


def test_unknown_objective_is_an_error():
    with pytest.raises(ValueError, match=r"'two_pass'.*three_pass"):
        ObjectiveConfig(kind="two_pass")
