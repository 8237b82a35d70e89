"""The plan of a run is what a run takes."""

from __future__ import annotations

import pytest
import torch

from harmony_core.diffusion.latents import AVLatents
from harmony_core.presets import preset
from harmony_core.training.config import TrainingConfig
from harmony_core.training.optim import make_optimizers
from harmony_core.training.plan import GIB, ClipShape, kept_storages, make_plan, own_clip
from harmony_core.training.start import Models, TrainedModel, choose_trained, fresh, start_models
from harmony_core.training.tasks import TaskRow, draw_levels, noise_rows

SHAPE = ClipShape((24, 7, 8, 8), (20, 50), 10)
SMALL = {"dim": 64, "ffn_dim": 96, "num_heads": 4, "num_layers": 2}


def config_of(**changes) -> TrainingConfig:
    from harmony_core.strict import build

    values = {"preset": "harmony-tiny", "model": SMALL, "steps": 1, "batch_size": 1}
    values["objective"] = {"kind": "split_batch", "audio_driven_share": 0, "video_driven_share": 0}
    return build(TrainingConfig, values | changes, "test")


LORA = {"preset": "", "model": {}, "start": {"model": "harmony-tiny"}, "data": {"shards": "x"}}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": {"kind": "adamw"}},
        {"train": "audio"},
        {"activation_checkpointing": True},
        LORA | {"lora": {"rank": 4, "targets": "video"}, "optimizer": {"kind": "adamw"}},
    ],
    ids=["muon", "adamw", "audio", "checkpointing", "lora"],
)
def test_a_plan_is_what_a_step_takes(changes: dict) -> None:
    config = config_of(**changes)
    plan = make_plan(config, SHAPE)
    models = start_models(config) if config.start else Models(config.transformer, fresh(config))
    model = choose_trained(models, config, ids=False)
    counts = [
        sum(each.numel() for each in parameters) for parameters in (model.parameters(), dict(model.trained()).values())
    ]
    assert [sum(plan.parameters.values()), sum(plan.trained.values())] == counts
    assert plan.weights == sum(each.nbytes for each in model.parameters())

    optimizers = make_optimizers(model.trained(), config.optimizer)
    with kept_storages(model.transformer, inputs=config.activation_checkpointing) as kept:
        loss = step(model, config)
    loss.backward()
    assert plan.gradients == sum(each.grad.nbytes for each in model.parameters() if each.grad is not None)
    for optimizer in optimizers:
        optimizer.step()
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    assert plan.optimizer == sum(value.nbytes for state in states for value in state.values() if torch.is_tensor(value))
    measured = sum(kept.values())
    if config.activation_checkpointing:  # and one layer of those that a model without it keeps
        whole = choose_trained(Models(config.transformer, fresh(config)), config_of(), ids=False)
        with kept_storages(whole.transformer, inputs=False) as all_layers:
            step(whole, config)
        measured += sum(all_layers.values()) // config.transformer.num_layers
    assert plan.activations == pytest.approx(measured, rel=0.2)


def step(model: TrainedModel, config: TrainingConfig) -> torch.Tensor:
    clean = AVLatents(torch.randn(1, *SHAPE.video), torch.randn(1, *SHAPE.audio))
    rows = [TaskRow(0, "joint", True, True)]
    levels = draw_levels(rows, SHAPE.video[1], SHAPE.audio[1], config.objective, torch.Generator().manual_seed(0))
    batch = noise_rows(clean, rows, levels, [0], [0])
    size = model.transformer.config
    text = torch.randn(1, size.text_len, size.text_dim)
    velocity = model(batch, text, text, None, torch.randn(1, SHAPE.audio[0], SHAPE.reference))
    return velocity.video.square().mean() + velocity.sound.square().mean()


def test_layers_that_are_computed_again_keep_less() -> None:
    whole, again = (make_plan(config_of(activation_checkpointing=each), SHAPE) for each in (False, True))
    assert again.activations < 0.8 * whole.activations
    assert again.step_flops == pytest.approx(4 / 3 * whole.step_flops)


def test_the_papers_model_at_full_size() -> None:
    """13.4 B parameters, 3.36 B of them interactions; three passes cost less than three times a joint one, since a
    driver is deaf."""
    stage3 = {"preset": "harmony-5b", "model": {}, "data": {"shards": "x"}, "objective": {"kind": "three_pass"}}
    stage3 |= {"batch_size": 8, "precision": "bfloat16", "activation_checkpointing": True}
    plan = make_plan(config_of(**stage3, optimizer={"kind": "adamw"}), SHAPE_5B, processes=8, sharded=True)
    assert sum(plan.parameters.values()) == pytest.approx(13.4e9, rel=0.01)
    assert plan.parameters["interactions"] == pytest.approx(3.36e9, rel=0.01)
    assert plan.rows == {"joint": 8, "audio_given": 8, "video_given": 8, "isolated": 0}
    joint, *driven = (plan.forward_flops[role] for role in ("joint", "audio_given", "video_given"))
    assert all(0.85 * joint < each < joint for each in driven)
    assert "a step: 2.84 times its joint rows alone" in plan.lines()
    stage3["objective"] = {"kind": "three_pass", "stop_drivers": True}
    stopped = make_plan(config_of(**stage3, optimizer={"kind": "adamw"}), SHAPE_5B, processes=8, sharded=True)
    assert stopped.step_flops / stopped.joint_flops == pytest.approx(2.21, abs=0.01)
    assert stopped.joint_flops == plan.joint_flops
    assert plan.weights + plan.gradients + plan.optimizer == pytest.approx(214e9 / 8, rel=0.02)  # 16 bytes each
    assert plan.lines(80)[-1].startswith("a card of 80 GiB: fits")
    assert plan.lines(24)[-1].startswith("a card of 24 GiB: does not fit")


SHAPE_5B = ClipShape((48, 3, 44, 80), (20, 14), 0)


@pytest.mark.slow
def test_a_lora_of_the_papers_model_on_a_card_of_24_gib() -> None:
    """Half of its own clip of 5 seconds fits, with frozen weights of a byte each and a scale a row, and all of it with
    these on the host."""
    frozen = {"lora": {"rank": 16}, "frozen": "float8", "optimizer": {"kind": "adamw_8bit"}, "precision": "bfloat16"}
    values = LORA | {"preset": "harmony-5b", "activation_checkpointing": True, **frozen}
    plan = make_plan(config_of(**values), ClipShape((48, 16, 44, 80), (20, 80), 0))
    assert plan.weights == pytest.approx(13.4e9, rel=0.05)
    assert sum(plan.trained.values()) < 0.01 * sum(plan.parameters.values())
    assert plan.gradients == 4 * sum(plan.trained.values())
    assert 30 * 16 * 880 * 3072 * 2 < plan.activations < 12 * GIB  # more than the video blocks' inputs alone
    assert plan.lines(24)[-1].startswith("a card of 24 GiB: fits")
    assert plan.lines(22)[-1].startswith("a card of 22 GiB: does not fit")
    joint = {"kind": "split_batch", "audio_driven_share": 0.0, "video_driven_share": 0.0}
    plan = make_plan(config_of(**values | {"batch_size": 1, "frozen_on": "host", "objective": joint}))
    assert plan.host == pytest.approx(13.3e9, rel=0.01)
    assert plan.weights < GIB / 2
    assert plan.lines(24)[-1].startswith("a card of 24 GiB: fits")


def test_uniavgens_tasks() -> None:
    """A joint row behind a voice is deaf to the picture, a driven one hears no voice, and padding is never trained."""
    values = {"preset": "uniavgen", "data": {"shards": "x"}, "precision": "bfloat16", "optimizer": {"kind": "adamw"}}
    values |= {"model": {"num_layers": 2, "interaction_layers": [0]}, "activation_checkpointing": True}
    values |= {"objective": {"first_frame_share": 1, "prefix_share": 0}}
    voiced, plain = (make_plan(config_of(**values), ClipShape((48, 3, 46, 80), (80, 57), each)) for each in (60, 0))
    assert sum(plain.parameters.values()) - sum(plain.trained.values()) == 1536
    assert voiced.rows == {"joint": 1, "audio_given": 1, "video_given": 1, "isolated": 0}
    for role in ("audio_given", "video_given"):
        assert voiced.forward_flops[role] == plain.forward_flops[role] < plain.forward_flops["joint"]
    assert voiced.forward_flops["joint"] != plain.forward_flops["joint"]
    assert own_clip(preset("uniavgen"), config_of(**values)).reference == 1030
