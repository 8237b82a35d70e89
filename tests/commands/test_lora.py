"""`--lora`: a file on the model for one command, and part of a clip's request."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harmony_core.checkpoints import load_bundle
from harmony_core.media import read_video
from harmony_core.training.adapters import LoraConfig, add_lora, save_lora

PROMPT = ("a red ball bounces on metal", "--steps", "2", "--seed", "1")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters of the video branch that do much."""
    transformer = load_bundle("harmony-tiny").transformer
    add_lora(transformer, LoraConfig(rank=2, targets="video"))
    for name, parameter in transformer.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("lora") / "look.safetensors"
    save_lora(path, transformer, {})
    return path


def test_a_lora_changes_a_clip_by_its_strength(harmony, lora: Path, tmp_path: Path) -> None:
    for name, options in (
        ("plain", ()),
        ("with", ("--lora", lora)),
        ("none", ("--lora", lora, "--lora-video-strength", "0")),
    ):
        code, _, err = harmony("generate", *PROMPT, "-o", tmp_path / f"{name}.mp4", *options)
        assert code == 0, err
    plain, changed, none = (read_video(tmp_path / f"{name}.mp4").frames for name in ("plain", "with", "none"))
    assert (plain == none).all()
    assert (plain != changed).mean() > 0.1


def test_a_lora_is_part_of_a_clips_request(harmony, lora: Path, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a red ball", "steps": 1}\n')
    line = ("generate", "--prompts", tmp_path / "p.jsonl", "-o", tmp_path / "clips")
    assert harmony(*line, "--lora", lora)[0] == 0
    assert "made before" in harmony(*line, "--lora", lora)[1]
    code, _, err = harmony(*line, "--lora", lora, "--lora-audio-strength", "0.5")
    assert code != 0
    assert "made from another request (lora_audio_strength differ)" in err


def test_what_is_no_lora_is_said(harmony, tmp_path: Path) -> None:
    _, _, err = harmony("generate", *PROMPT, "-o", tmp_path / "x.mp4", "--lora", tmp_path / "none.safetensors")
    assert "none.safetensors is missing; give a .safetensors file" in err
    _, _, err = harmony("generate", *PROMPT, "-o", tmp_path / "x.mp4", "--lora-video-strength", "nan")
    assert "--lora-video-strength is nan, but must be a number" in err
