"""A run on the procedural world that goes on from weights, as those of the embedded checkpoint do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from harmony_core.checkpoints import load_bundle
from harmony_core.checkpoints.bundle import resolve
from harmony_core.training.config import TrainingConfig
from harmony_core.training.trainer import run


def write(folder: Path, model: str, **changes) -> Path:
    settings = {
        "start": {"model": model},
        "steps": 1,
        "batch_size": 4,
        "data": {"clips": 4},
        "objective": {"kind": "split_batch", "audio_driven_share": 0.25, "video_driven_share": 0.25},
        "optimizer": {"muon_lr": 0.0, "adamw_lr": 0.0},
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(settings | changes))
    return path


def test_it_takes_autoencoders_and_weights_from_there(tmp_path: Path) -> None:
    path = run(write(tmp_path, "harmony-tiny"), tmp_path / "run", resume=False)
    before, after = load_bundle("harmony-tiny"), load_bundle(str(path))
    for part in ("transformer", "video_vae", "audio_vae", "text_encoder"):
        old, new = (getattr(bundle, part).state_dict() for bundle in (before, after))
        assert all(torch.equal(value, new[name]) for name, value in old.items()), part
    assert not (tmp_path / "run" / "video_vae.safetensors").exists()
    card = after.model_card
    assert (card["name"], card["start"], card["steps"]) == ("run", "harmony-tiny", 1)


def test_with_a_preset_all_of_its_weights_are_taken_too(tmp_path: Path) -> None:
    file = str(resolve("harmony-tiny"))
    path = run(write(tmp_path, file, preset="harmony-tiny"), tmp_path / "run", resume=False)
    before, after = (load_bundle(each).transformer.state_dict() for each in ("harmony-tiny", str(path)))
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    card = load_bundle(str(path)).model_card
    assert card["name"] == "harmony-tiny"
    assert card["start"] == "harmony-tiny.safetensors"  # and no folder


def test_autoencoders_are_not_trained_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'harmony-tiny' brings its own and they are not trained again"):
        TrainingConfig.from_yaml(write(tmp_path, "harmony-tiny", autoencoders={"video_steps": 9}), [])


def test_longer_references_than_the_clips_hold_are_refused(tmp_path: Path) -> None:
    config = write(tmp_path, "harmony-tiny", objective={"reference_latents": [8, 13]})
    with pytest.raises(ValueError, match=r"data.reference_seconds 0.48 holds 12 latents"):
        run(config, tmp_path / "run", resume=False)


def test_weights_of_another_world_are_refused(parts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'.*' brings none; name the folder .* by data\.shards"):
        run(write(tmp_path, str(parts["harmony"])), tmp_path / "run", resume=False)
