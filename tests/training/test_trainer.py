"""`harmony train` at the smallest size: it learns, resumes exactly, and writes a checkpoint that generates."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from harmony_core.model import HarmonyTransformer
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.text.captions import TinyTextEncoder
from harmony_core.toyworld import VOCABULARY
from harmony_core.training import trainer
from harmony_core.training.config import TrainingConfig
from harmony_core.training.data import LatentDataset
from harmony_core.training.muon import Muon, orthogonalize
from harmony_core.training.trainer import run

SMALL = {
    "preset": "harmony-tiny",
    "steps": 6,
    "batch_size": 4,
    "model": {"dim": 48, "ffn_dim": 64, "num_heads": 4, "num_layers": 2},
    "data": {"clips": 6, "held_out": 2},
    "autoencoders": {"video_steps": 2, "video_batch": 4, "audio_steps": 2, "audio_batch": 2, "clips": 4},
    "objective": {"kind": "split_batch", "audio_driven_share": 0.25, "video_driven_share": 0.25},
    "optimizer": {"warmup_steps": 1},
    "log_every": 2,
    "save_every": 3,
}


def write(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump(SMALL | changes))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    run(write(folder / "small.yaml"), folder / "run", resume=False)
    return folder


def test_checkpoint_generates(finished: Path):
    pipeline = HarmonyPipeline.from_file(finished / "run" / "checkpoint.safetensors")
    assert pipeline.config.dim == 48
    assert pipeline.model_card["steps"] == 6
    clip = pipeline(GenerateRequest(prompt="a blue ball bounces on metal", steps=2))
    assert clip.frames.shape == (25, 64, 64, 3)
    assert clip.samples.shape == (1, 32000)


def test_every_task_and_modality_is_logged(finished: Path):
    lines = [json.loads(line) for line in (finished / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert set(lines[0]) == {"step", "joint/video", "joint/audio", "audio_driven/video", "video_driven/audio"}
    assert set(json.loads((finished / "run" / "autoencoders.json").read_text())) >= {"psnr", "psnr_moving", "mel_l1"}


def test_a_stopped_run_resumes_to_the_same_weights(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stopped in the fifth step, after a save in the third: bit for bit what six steps in one go give."""
    part = tmp_path / "run"
    part.mkdir()
    for name in ("video_vae.safetensors", "audio_vae.safetensors", "latents.safetensors"):
        (part / name).write_bytes((finished / "run" / name).read_bytes())

    def stop(_log: trainer.Log, step: int, _parts: dict[str, float]) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Log, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            run(finished / "small.yaml", part, resume=True)
    assert not (part / "checkpoint.safetensors").exists()
    run(finished / "small.yaml", part, resume=True)
    whole, resumed = (
        HarmonyPipeline.from_file(folder / "checkpoint.safetensors").transformer for folder in (finished / "run", part)
    )
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


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
        ("optimizer.muon_lr=.nan", "optimizer.muon_lr is nan"),
        ("objective.text_dropout=2", "objective.text_dropout is 2"),
        ("objective.reference_latents=[20, 5]", r"objective.reference_latents is \[20, 5\]"),
        ("steps=[1", r"override 'steps=\[1' is no YAML"),
        ("steps.x=3", "steps is a setting, not a section"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_an_error(finished: Path, override: str, message: str):
    with pytest.raises(ValueError, match=message):
        _ = TrainingConfig.from_yaml(finished / "small.yaml", [override]).autoencoder_training


def test_a_file_without_settings_is_an_error(tmp_path: Path):
    for text, message in (("", "holds no settings"), ("steps: [", "is no YAML")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ValueError, match=f"bad.yaml {message}"):
            TrainingConfig.from_yaml(tmp_path / "bad.yaml", [])


def test_a_run_is_continued_with_its_own_settings(finished: Path):
    with pytest.raises(ValueError, match=r'started with data \{"clips": 6.*continue it with that'):
        run(finished / "small.yaml", finished / "run", resume=True, overrides=["data.clips=7"])


def test_one_whole_state_is_kept(finished: Path):
    assert [path.name for path in (finished / "run").glob("state*")] == ["state-00000006"]


def test_a_step_moves_its_batch_to_the_model(finished: Path):
    """The meta device refuses tensors of the CPU, as a GPU does."""
    config = TrainingConfig.from_yaml(finished / "small.yaml", ["objective.reference_share=1"])
    encoder = TinyTextEncoder(VOCABULARY, config.transformer.text_len, config.transformer.text_dim)
    model = trainer.TrainedModel(HarmonyTransformer(config.transformer), encoder)
    seen = []

    def forward(batch, *inputs: torch.Tensor):
        tensors = [*batch.noisy, *batch.sigmas, *batch.masks, *batch.velocity, *inputs]
        seen.extend(tensor.device.type for tensor in tensors)
        raise StopIteration

    model.forward = forward
    accelerator = SimpleNamespace(device=torch.device("meta"), num_processes=1, process_index=0)
    with pytest.raises(StopIteration):
        trainer._step(config, model, LatentDataset.load(finished / "run" / "latents.safetensors"), 0, accelerator)
    assert len(seen) == 12
    assert set(seen) == {"meta"}


def test_numbers_may_be_written_as_yaml_does_not(finished: Path):
    config = TrainingConfig.from_yaml(finished / "small.yaml", ["optimizer.adamw_lr=8e-4", "optimizer.ema=1"])
    assert (config.optimizer.adamw_lr, config.optimizer.ema) == (8e-4, 1.0)
    assert config.autoencoder_training.video_steps == SMALL["autoencoders"]["video_steps"]


def test_the_shipped_config_is_valid_and_the_default_objective_is_the_papers():
    shipped = Path(__file__).parents[2] / "harmony_core" / "training" / "configs" / "tiny.yaml"
    config = TrainingConfig.from_yaml(shipped, [])
    assert config.transformer.dim == 160
    default = TrainingConfig(preset="harmony-tiny", steps=1, batch_size=1).objective
    assert (default.kind, default.lambda_v, default.lambda_a) == ("three_pass", 0.1, 0.3)


@pytest.mark.parametrize("shape", [(2, 9, 9), (1, 5, 13), (3, 17, 4)])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, ...]):
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
    assert values.max() < 1.3
    assert values.min() > 0.3


def test_muon_descends():
    torch.manual_seed(0)
    target, parameter = torch.randn(8, 6), torch.nn.Parameter(torch.zeros(8, 6))
    optimizer = Muon([parameter], lr=0.05)
    losses = []
    for _ in range(60):
        loss = (parameter - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    assert np.isfinite(losses).all()
