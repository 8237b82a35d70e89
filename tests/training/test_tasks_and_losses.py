"""Cross-Task Synergy: what each task noises, and what each loss weighs."""

from __future__ import annotations

import pytest
import torch

from harmony_core.diffusion.latents import AVLatents
from harmony_core.training.config import TrainingConfig
from harmony_core.training.data.batch import process_rows
from harmony_core.training.losses import objective_loss, row_losses
from harmony_core.training.sections import ObjectiveConfig
from harmony_core.training.tasks import (
    NoisedBatch,
    TaskRow,
    check_batch,
    draw_levels,
    kept_texts,
    noise_rows,
    seed_of,
    split_roles,
    task_rows,
)

NO_PARTS = {"first_frame_share": 0.0, "prefix_share": 0.0}


def whole_clips(count: int, objective: ObjectiveConfig) -> list[TaskRow]:
    return task_rows([(True, True)] * count, objective)


def rows_of(*roles: str) -> list[TaskRow]:
    return [TaskRow(clip, role, role != "video_given", role != "audio_given") for clip, role in enumerate(roles)]


def batch_of(rows: list[TaskRow], objective: ObjectiveConfig, seed: int = 0) -> tuple[AVLatents, NoisedBatch]:
    generator = torch.Generator().manual_seed(seed)
    clean = AVLatents(
        torch.randn(len(rows), 2, 3, 2, 2, generator=generator), torch.randn(len(rows), 4, 5, generator=generator)
    )
    levels = draw_levels(rows, 3, 5, objective, torch.Generator().manual_seed(seed + 1))
    places = range(len(rows))
    return clean, noise_rows(clean, rows, levels, places, [seed_of(seed, place) for place in places])


def test_the_driver_of_a_row_is_clean_and_its_noise_level_zero():
    objective = ObjectiveConfig(**NO_PARTS)
    clean, batch = batch_of(whole_clips(2, objective), objective)
    assert batch.roles == ("joint",) * 2 + ("audio_given",) * 2 + ("video_given",) * 2
    assert torch.equal(batch.noisy.audio[2:4], clean.audio[2:4])
    assert torch.equal(batch.noisy.video[4:], clean.video[4:])
    assert batch.sigmas.audio[2:4].abs().max() == 0
    assert batch.sigmas.video[4:].abs().max() == 0
    for row in (0, 1):
        assert batch.sigmas.video[row].unique() == batch.sigmas.audio[row].unique(), "joint rows share one level"
        assert (batch.noisy.video[row] - clean.video[row]).abs().max() > 1e-3


def test_noisy_minus_sigma_velocity_is_clean():
    clean, batch = batch_of(rows_of(*["joint"] * 4), ObjectiveConfig(first_frame_share=0.5, prefix_share=0.5))
    sigma = batch.sigmas.video[:, None, :, None, None]
    torch.testing.assert_close(batch.noisy.video - sigma * batch.velocity.video, clean.video, atol=1e-5, rtol=1e-5)


def test_first_frames_and_prefixes_are_given_and_carry_no_loss():
    clean, batch = batch_of(rows_of(*["joint"] * 6), ObjectiveConfig(first_frame_share=1.0, prefix_share=0.0))
    assert torch.equal(batch.noisy.video[:, :, 0], clean.video[:, :, 0])
    wrong_there = batch.velocity.map(torch.clone)
    wrong_there.video[:, :, 0] += 100
    assert row_losses(wrong_there, batch).video.abs().max() == 0


def test_row_losses_are_means_over_generated_positions():
    _, batch = batch_of(rows_of("joint", "audio_given", "video_given"), ObjectiveConfig(**NO_PARTS))
    predicted = batch.velocity.map(lambda x: x + 2)
    losses = row_losses(predicted, batch)
    torch.testing.assert_close(losses.video, torch.tensor([4.0, 4.0, 0.0]))
    torch.testing.assert_close(losses.audio, torch.tensor([4.0, 0.0, 4.0]))


def test_three_pass_objective_is_the_papers_sum():
    objective = ObjectiveConfig(**NO_PARTS)
    rows = whole_clips(1, objective)
    video, audio = torch.tensor([1.0, 10.0, 0.0]), torch.tensor([2.0, 0.0, 20.0])
    total, parts = objective_loss(AVLatents(video, audio), rows, objective, rows)
    assert float(total) == pytest.approx(1 + 2 + 0.1 * 10 + 0.3 * 20)
    assert parts == {"joint/video": 1, "joint/audio": 2, "audio_driven/video": 10, "video_driven/audio": 20}


def test_split_batch_shares_and_mean():
    objective = ObjectiveConfig(kind="split_batch", audio_driven_share=0.25, video_driven_share=0.25, **NO_PARTS)
    rows = whole_clips(8, objective)
    roles = [row.role for row in rows]
    assert [roles.count(role) for role in ("joint", "audio_given", "video_given")] == [4, 2, 2]
    _, batch = batch_of(rows, objective)
    losses = row_losses(batch.velocity.map(lambda x: x + 1), batch)
    assert float(objective_loss(losses, rows, objective, rows)[0]) == pytest.approx(2.0)


def test_a_clip_that_lacks_a_modality_teaches_the_other_alone():
    present = [(True, True), (True, False), (False, True), (True, True)]
    objective = ObjectiveConfig(**NO_PARTS)
    rows = task_rows(present, objective)
    alone = [TaskRow(1, "isolated", True, False), TaskRow(2, "isolated", False, True)]
    assert rows[-2:] == alone
    assert [(row.clip, row.role) for row in rows[:-2]] == [
        (clip, role) for role in ("joint", "audio_given", "video_given") for clip in (0, 3)
    ]
    _, batch = batch_of(rows, objective)
    assert torch.equal(batch.masks.sound[-2:].amax(1), torch.tensor([0.0, 1.0]))
    losses = row_losses(batch.velocity.map(lambda x: x + torch.arange(len(rows)).view(-1, *[1] * (x.ndim - 1))), batch)
    total, parts = objective_loss(losses, rows, objective, rows)
    assert (float(parts["alone/video"]), float(parts["alone/audio"])) == (36.0, 49.0)
    joint = (0 + 1 + 36) / 3 + (0 + 1 + 49) / 3
    assert float(total) == pytest.approx(joint + 0.1 * (4 + 9) / 2 + 0.3 * (16 + 25) / 2)


def test_sound_alone_reads_no_picture():
    rows = task_rows([(True, True), (False, True), (True, False)], ObjectiveConfig(kind="audio"))
    assert rows == [TaskRow(0, "isolated", False, True), TaskRow(1, "isolated", False, True)]


def test_a_row_has_the_same_noise_whoever_runs_it():
    objective = ObjectiveConfig(first_frame_share=0.5)
    rows = whole_clips(3, objective)
    clean, whole = batch_of(rows, objective)
    levels = draw_levels(rows, 3, 5, objective, torch.Generator().manual_seed(1))
    own = [1, 4, 7]
    part = noise_rows(clean.map(lambda x: x[own]), rows, levels, own, [seed_of(0, place) for place in own])
    for name in ("noisy", "sigmas", "masks", "velocity"):
        for mine, of_all in zip(getattr(part, name), getattr(whole, name), strict=True):
            assert torch.equal(mine, of_all[own])


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["split_batch", "three_pass"])
def test_shares_of_processes_add_up_to_the_whole(kind: str, processes: int):
    objective = ObjectiveConfig(kind=kind, audio_driven_share=0.25, video_driven_share=0.125, **NO_PARTS)
    rows = task_rows([(True, True)] * 10 + [(True, False), (False, True)], objective)
    losses = AVLatents(torch.rand(len(rows)), torch.rand(len(rows)))
    whole, parts = objective_loss(losses, rows, objective, rows)
    totals, run = 0.0, []
    shares = dict.fromkeys(parts, 0.0)
    for rank in range(processes):
        clips = process_rows(12, rank, processes)
        own = [place for place, row in enumerate(rows) if row.clip in clips]
        run += own
        loss, mine = objective_loss(
            losses.map(lambda x, own=own: x[own]), [rows[place] for place in own], objective, rows
        )
        totals += loss
        shares = {name: shares[name] + mine[name] for name in shares}
    assert sorted(run) == list(range(len(rows)))
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


def test_texts_are_dropped_at_their_share():
    kept = kept_texts(1000, ObjectiveConfig(), torch.Generator().manual_seed(0))
    assert 0.06 < float((~kept).float().mean()) < 0.14


def test_unknown_objective_is_an_error():
    with pytest.raises(ValueError, match=r"'two_pass'.*three_pass"):
        ObjectiveConfig(kind="two_pass")
