"""What of one transformer is a start for another, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harmony_core.checkpoints import CheckpointError
from harmony_core.checkpoints.bundle import save_transformer
from harmony_core.checkpoints.files import open_model
from harmony_core.checkpoints.transfer import branch_of, transfer
from harmony_core.config import HarmonyConfig
from harmony_core.model import HarmonyTransformer
from tests.model.test_transformer import random_model, small_config

OVI = {"interaction": "global", "rope_alignment": "ovi", "speech": None, "style_alignment": False}


def transferred(source: HarmonyConfig, target: HarmonyConfig, folder: Path) -> tuple[dict[str, str], set[str]]:
    """What is said of each branch, and the branches whose weights are the source's."""
    given, model = random_model(source, seed=1), random_model(target, seed=2)
    save_transformer(folder / "source.safetensors", source, given, torch.float32, {})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    lines = transfer(model, open_model(folder / "source.safetensors"))
    theirs, now = given.state_dict(), model.state_dict()
    taken = {branch_of(key) for key in now if key in theirs and torch.equal(now[key], theirs[key])}
    kept = {branch_of(key) for key in now if torch.equal(now[key], before[key])}
    assert not taken & kept
    assert taken | kept == set(lines)
    assert taken == {branch for branch, line in lines.items() if line.startswith("all ")}
    return lines, taken


def test_the_same_model_is_taken_whole(tmp_path: Path) -> None:
    _, taken = transferred(small_config(), small_config(rope_alignment="timestamp"), tmp_path)
    assert taken == {"video", "audio", "speech", "interactions"}


def test_of_ovi_the_branches_are_taken_and_not_its_fusion(tmp_path: Path) -> None:
    lines, taken = transferred(small_config(**OVI), small_config(), tmp_path)
    assert taken == {"video", "audio"}
    assert "interaction is framewise here and global there" in lines["interactions"]
    assert lines["speech"] == "its own first weights: the file has none"


def test_audio_of_another_codec_is_not_taken(tmp_path: Path) -> None:
    """As of UniAVGen, whose sound is a mel spectrogram at another rate."""
    lines, taken = transferred(small_config(audio_latent_rate="50"), small_config(), tmp_path)
    assert taken == {"video", "speech", "interactions"}
    assert "audio_latent_rate is " in lines["audio"]


def test_nothing_that_fits_is_an_error_that_says_why(tmp_path: Path) -> None:
    source = small_config(dim=32)
    save_transformer(tmp_path / "s.safetensors", source, random_model(source), torch.float32, {})
    model = HarmonyTransformer(small_config())
    with pytest.raises(CheckpointError, match=r"Nothing of s\.safetensors can be a start .*: video has .* here and"):
        transfer(model, open_model(tmp_path / "s.safetensors"))
