"""`harmony train` at the smallest size: it learns, says what is wrong, and writes a checkpoint that generates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harmony_core.model import HarmonyTransformer
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.presets import preset
from harmony_core.text.tiny_encoder import TinyTextEncoder
from harmony_core.toyworld import VOCABULARY
from harmony_core.training import state as run_state
from harmony_core.training import trainer
from harmony_core.training.config import TrainingConfig
from harmony_core.training.data.loader import Batches
from harmony_core.training.data.shards import Shards
from harmony_core.training.sections import ObjectiveConfig
from harmony_core.training.start import TrainedModel
from harmony_core.training.state import read_average
from harmony_core.training.step import step_losses
from harmony_core.training.tasks import check_batch
from harmony_core.training.trainer import run

from .small_runs import SMALL, prepared


def test_checkpoint_generates(finished: Path):
    pipeline = HarmonyPipeline.from_file(finished / "run" / "checkpoint.safetensors")
    assert pipeline.config.dim == 48
    assert pipeline.model_card["steps"] == 6
    seconds = [line["clips_per_s"] for line in map(json.loads, (finished / "run" / "log.jsonl").open())]
    assert pipeline.model_card["training_seconds"] <= round(sum(2 * 4 / each for each in seconds))  # those with saving
    clip = pipeline(GenerateRequest(prompt="a blue ball bounces on metal", steps=2))
    assert clip.frames.shape == (25, 64, 64, 3)
    assert clip.samples.shape == (1, 32000)


def test_every_task_and_modality_is_logged(finished: Path):
    lines = [json.loads(line) for line in (finished / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    losses = {"joint/video", "joint/audio", "audio_driven/video", "video_driven/audio"}
    gradients = {f"gradient/{branch}" for branch in ("video", "audio", "interactions", "text")}
    assert set(lines[0]) == {"step", "clips_per_s", "seconds_left", "waiting_share"} | losses | gradients
    assert set(json.loads((finished / "run" / "autoencoders.json").read_text())) >= {"psnr", "psnr_moving", "mel_l1"}


def test_a_used_folder_and_unknown_settings_are_errors(finished: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="--resume"):
        run(finished / "small.yaml", finished / "run", resume=False)
    with pytest.raises(ValueError, match=r"objective\.kid.*objective\.kind"):
        TrainingConfig.from_yaml(finished / "small.yaml", ["objective.kid=1"])
    with pytest.raises(ValueError, match=r"section\.key=value"):
        TrainingConfig.from_yaml(finished / "small.yaml", ["steps"])
    with pytest.raises(ValueError, match="no training config"):
        TrainingConfig.from_yaml(tmp_path / "none.yaml", [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=many", "steps is 'many', but must be of type int"),
        ("optimizer.ema=true", "optimizer.ema is True, but must be of type float"),
        ("optimizer=3", "optimizer is 3, but must be of type OptimizerConfig"),
        ("autoencoders.video_batch=1.5", r"autoencoders.video_batch is 1.5, but must be of type int"),
        ("autoencoders.video_stepz=3", r"autoencoders.video_stepz. Known: .*autoencoders.video_steps"),
        ("preset=foo", "Unknown preset 'foo'"),
        ("model.foo=3", "unknown: foo"),
        ("model.dim=abc", "dim is 'abc', but must be of type int"),
        ("batch_size=0", "batch_size is 0, but must be 1 or more"),
        ("save_every=0", "save_every is 0"),
        ("data.clips=0", "data.clips is 0"),
        ("data.validation=6", r"data\.validation is 6, but data\.clips is 6, which leaves none to train on"),
        ("data.world=moon", r"data\.world is .moon., but must be one of plain, free_speech"),
        ("optimizer.muon_lr=.nan", "optimizer.muon_lr is nan"),
        ("objective.text_dropout=2", "objective.text_dropout is 2"),
        ("objective.reference_latents=[20, 5]", r"objective.reference_latents is \[20, 5\]"),
        ("objective.reference_latents=[a, b]", "objective.reference_latents is 'a', but must be of type int"),
        ("objective.reference_latents=[8, 13]", r"data.reference_seconds 0.48 holds 12 latents"),
        ("objective={kind: audio, stop_drivers: true}", "stop_drivers is true, but kind audio has no driver"),
        ("objective.lambda_a=.inf", "objective.lambda_a is inf"),
        ("objective.prefix_share=0.95", r"first_frame_share 0.1 and prefix_share 0.95 are more than all"),
        ("optimizer.kind=sgd", "optimizer.kind is 'sgd', but must be one of muon, adamw, adamw_8bit"),
        ("optimizer.max_grad_norm=0", "optimizer.max_grad_norm is 0"),
        ("autoencoders.video_steps=0", "autoencoders.video_steps is 0, but must be 1 or more"),
        ("autoencoders.matrix_lr=nan", "autoencoders.matrix_lr is nan"),
        ("seed=-1", "seed is -1"),
        ("model.video_channels=16", "needs video_channels 24 and audio_channels 20"),
        ("steps=[1", r"override 'steps=\[1' is no YAML"),
        ("steps.x=3", "steps is a setting, not a section"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_an_error(finished: Path, override: str, message: str):
    with pytest.raises(ValueError, match=message):
        TrainingConfig.from_yaml(finished / "small.yaml", [override])


def test_drivers_that_cannot_be_stopped_are_an_error_before_clips_are_made(finished: Path):
    apart = "{interaction: global, rope_alignment: ovi, style_alignment: false, style_pooling: none, speech: null}"
    with pytest.raises(ValueError, match="rows with interaction 'global' cannot be run apart"):
        TrainingConfig.from_yaml(finished / "small.yaml", ["objective.stop_drivers=true", f"model={apart}"])


@pytest.mark.parametrize("start", [[], ["start.model=harmony-tiny", "preset=''", "model={}", "autoencoders={}"]])
def test_prompts_that_cannot_be_read_are_an_error_before_clips_are_made(
    finished: Path, tmp_path: Path, start: list[str]
):
    (tmp_path / "prompts.jsonl").write_text('{"promt": "a red ball"}\n')
    overrides = [f"samples.prompts={tmp_path}/prompts.jsonl", *start]
    with pytest.raises(ValueError, match=r"prompts\.jsonl, line 1: not an object with a prompt"):
        run(finished / "small.yaml", tmp_path / "run", resume=False, overrides=overrides)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_a_file_without_settings_is_an_error(tmp_path: Path):
    for content, message in ((b"", "holds no settings"), (b"steps: [", "is no YAML"), (b"\xff\xfe\0", "is no YAML")):
        (tmp_path / "bad.yaml").write_bytes(content)
        with pytest.raises(ValueError, match=f"bad.yaml {message}"):
            TrainingConfig.from_yaml(tmp_path / "bad.yaml", [])
    (tmp_path / "short.yaml").write_text("preset: harmony-tiny\nsteps: 3\n")
    with pytest.raises(ValueError, match="missing: batch_size"):
        TrainingConfig.from_yaml(tmp_path / "short.yaml", [])


def test_a_change_to_the_speech_encoder_keeps_the_rest_of_it(finished: Path):
    speech = TrainingConfig.from_yaml(finished / "small.yaml", ["model.speech.dim=64"]).transformer.speech
    assert speech == replace(preset("harmony-tiny").speech, dim=64)


def test_what_accelerate_was_set_to_in_vain_is_refused(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(ValueError, match="accumulate gradients over 4 steps, but the config has accumulation 1"):
        run(finished / "small.yaml", tmp_path / "run", resume=False)
    monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="mixed precision fp16, but the config has precision float32"):
        run(finished / "small.yaml", tmp_path / "run", resume=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbored", "'tensorbored', but must be of .*tensorboard"),
        ("aim", "aim, which is not installed; pip install"),
    ],
)
def test_a_tracker_that_would_be_passed_over_is_an_error(finished: Path, tmp_path: Path, name: str, message: str):
    with pytest.raises(ValueError, match=message):
        run(finished / "small.yaml", tmp_path / "run", resume=False, overrides=[f"trackers=[{name}]"])


def test_a_batch_too_small_for_its_tasks_is_an_error_before_anything_runs(finished: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"batch_size is 2, .* raise batch_size to 3"):
        run(finished / "small.yaml", tmp_path / "run", resume=False, overrides=["batch_size=2"])
    assert not (tmp_path / "run").exists()


def test_a_step_moves_its_batch_to_the_model(finished: Path):
    """The meta device refuses tensors of the CPU, as a GPU does."""
    config = TrainingConfig.from_yaml(finished / "small.yaml", ["objective.reference_share=1"])
    encoder = TinyTextEncoder(VOCABULARY, config.transformer.text_len, config.transformer.text_dim)
    model = TrainedModel(HarmonyTransformer(config.transformer), encoder)
    seen = []

    def forward(batch, *inputs: torch.Tensor, voices: tuple):
        assert voices == ()
        tensors = [*batch.noisy, *batch.sigmas, *batch.masks, *batch.velocity, *inputs]
        seen.extend(tensor.device.type for tensor in tensors)
        raise StopIteration

    model.forward = forward
    batches = Batches(Shards(finished / "run" / "shards"), 4, reference=config.objective.references)
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(step_losses(config, model, batches, batches.at(0), 0, torch.device("meta")))
    assert len(seen) == 12
    assert set(seen) == {"meta"}


def test_numbers_may_be_written_as_yaml_does_not(finished: Path):
    config = TrainingConfig.from_yaml(finished / "small.yaml", ["optimizer.adamw_lr=8e-4", "optimizer.ema=1"])
    assert (config.optimizer.adamw_lr, config.optimizer.ema) == (8e-4, 1.0)
    assert config.autoencoder_training.video_steps == SMALL["autoencoders"]["video_steps"]


CONFIGS = Path(trainer.__file__).parent / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_is_valid(path: Path):
    config = TrainingConfig.from_yaml(path, [])
    for processes in (1, 2):
        check_batch(config, processes)


def test_the_shipped_checkpoint_is_what_its_config_says_and_the_default_objective_is_the_papers():
    assert TrainingConfig.from_yaml(CONFIGS / "tiny.yaml", []).transformer.dim == 160
    default = ObjectiveConfig()
    assert (default.kind, default.lambda_v, default.lambda_a) == ("three_pass", 0.1, 0.3)


def test_damaged_latents_are_made_anew(finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = prepared(finished, tmp_path / "run")
    (path,) = (folder / "shards" / "shards").glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    run(finished / "small.yaml", folder, resume=True)
    assert "is damaged" in caplog.text
    (there, again), (other,) = Shards(folder / "shards").entries[:2], Shards(finished / "run" / "shards").entries[:1]
    assert (there.id, there.checksum, there.duration) == (other.id, other.checksum, other.duration)
    assert again.row
    assert (folder / "checkpoint.safetensors").exists()


def spoiled(steps: set[int]):
    """The losses of a step, which are not finite in some of them."""

    def losses(config: TrainingConfig, model, batches, shown, step: int, device):
        for loss, parts in step_losses(config, model, batches, shown, step, device):
            yield (loss * float("nan") if step in steps else loss), parts

    return losses


def test_a_step_that_is_not_finite_is_skipped_and_counted(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = prepared(finished, tmp_path / "run")
    monkeypatch.setattr(trainer, "step_losses", spoiled({1, 2}))
    run(finished / "small.yaml", folder, resume=True)
    pipeline = HarmonyPipeline.from_file(folder / "checkpoint.safetensors")
    assert pipeline.model_card["skipped_steps"] == 2
    assert all(parameter.isfinite().all() for parameter in pipeline.transformer.parameters())


def test_a_run_that_stays_not_finite_stops_with_its_step_and_its_last_good_state(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = prepared(finished, tmp_path / "run")
    monkeypatch.setattr(trainer, "step_losses", spoiled({3, 4, 5}))
    monkeypatch.setattr(run_state, "MOST_SKIPPED", 2)
    with pytest.raises(ValueError, match=r"not been finite for 3 steps, up to step 6; lower the learning rates"):
        run(finished / "small.yaml", folder, resume=True)
    assert not (folder / "checkpoint.safetensors").exists()
    (state,) = folder.glob("state-*")
    tensors = read_average(state)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
