"""A run's folder: what continues it, exactly, its states, and what a stop leaves."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harmony_core.autoencoders.tiny import TinyVideoVAE
from harmony_core.checkpoints import write as weight_writer
from harmony_core.checkpoints.write import write_safetensors
from harmony_core.pipelines import HarmonyPipeline
from harmony_core.training import trainer
from harmony_core.training.config import TrainingConfig
from harmony_core.training.run_folder import same_settings
from harmony_core.training.state import read_average, save_state, saved_states
from harmony_core.training.trainer import run

from .small_runs import prepared


def test_a_stopped_run_resumes_to_the_same_weights(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stopped in the fifth step, after a save in the third: bit for bit what six steps in one go give."""
    part = prepared(finished, tmp_path / "run")

    def stop(_log: trainer.Log, step: int, *_: object) -> None:
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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.clips=7", r"started with data\.clips 6, not 7; continue it with that"),
        ("autoencoders.video_steps=3", r"started with autoencoders\.video_steps 2, not 3"),
        ("model.dim=96", r"started with model\.dim 48, not 96"),
    ],
)
def test_a_run_is_continued_with_its_own_settings(finished: Path, override: str, message: str):
    with pytest.raises(ValueError, match=message):
        run(finished / "small.yaml", finished / "run", resume=True, overrides=[override])


def test_a_run_cannot_be_made_shorter_than_it_is(finished: Path):
    checkpoint = finished / "run" / "checkpoint.safetensors"
    before = checkpoint.stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"steps is 5, but the run in .* has done 6; give 6 or more\."):
        run(finished / "small.yaml", finished / "run", resume=True, overrides=["steps=5"])
    assert checkpoint.stat().st_mtime_ns == before


def test_a_run_is_continued_by_as_many_processes(finished: Path):
    """What each of them draws depends on their number."""
    config = TrainingConfig.from_yaml(finished / "small.yaml", [])
    with pytest.raises(ValueError, match="started with processes 1, not 2; continue it with that"):
        same_settings(config, 2, finished / "run" / "config.json")


def test_a_run_that_is_made_longer_goes_on_at_its_new_rate(finished: Path, tmp_path: Path):
    """The old end's rate was zero."""
    folder = tmp_path / "run"
    shutil.copytree(finished / "run", folder)
    before = read_average(folder / "state-00000006")
    run(finished / "small.yaml", folder, resume=True, overrides=["steps=7"])
    after = read_average(folder / "state-00000007")
    assert any(not torch.equal(each, after[name]) for name, each in before.items())


def test_how_long_and_how_often_may_change(finished: Path, tmp_path: Path):
    config = TrainingConfig.from_yaml(finished / "small.yaml", [])
    same_settings(config, 1, tmp_path / "config.json")
    same_settings(replace(config, steps=9, threads=2, log_every=1, save_every=1), 1, tmp_path / "config.json")


def test_a_stop_while_saving_leaves_the_state_before(tmp_path: Path):
    (tmp_path / "state-00000003").mkdir()

    def stop() -> None:
        raise KeyboardInterrupt

    accelerator = SimpleNamespace(save_state=lambda folder: Path(folder).mkdir(), wait_for_everyone=lambda: None)
    with pytest.raises(KeyboardInterrupt):
        save_state(accelerator, SimpleNamespace(tensors=stop), tmp_path, 6)
    assert [path.name for path in tmp_path.glob("state-*")] == ["state-00000003"]


def test_states_that_were_put_aside_are_neither_continued_nor_removed(finished: Path, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(finished / "run", folder)
    for name in ("state-00000003-good", "state-best"):
        (folder / name).mkdir()
    run(finished / "small.yaml", folder, resume=True, overrides=["steps=7"])
    assert saved_states(folder) == {7: folder / "state-00000007"}
    assert {path.name for path in folder.glob("state-*")} == {"state-00000003-good", "state-00000007", "state-best"}


def test_states_are_ordered_by_their_steps(tmp_path: Path):
    for step in (99_999_999, 100_000_000):
        (tmp_path / f"state-{step:08}").mkdir()
    assert list(saved_states(tmp_path)) == [99_999_999, 100_000_000]


@pytest.mark.parametrize("name", ["video_vae", "config.json"])
def test_a_stop_while_writing_leaves_no_file_that_looks_whole(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(weight_writer, "_write", stop)
    monkeypatch.setattr(Path, "replace", stop)
    path = tmp_path / name
    writers = {
        "video_vae": lambda: write_safetensors(path, TinyVideoVAE().state_dict()),
        "config.json": lambda: same_settings(TrainingConfig.from_yaml(finished / "small.yaml", []), 1, path),
    }
    with pytest.raises(KeyboardInterrupt):
        writers[name]()
    assert not path.exists()


def test_one_whole_state_is_kept(finished: Path):
    assert [path.name for path in (finished / "run").glob("state*")] == ["state-00000006"]
