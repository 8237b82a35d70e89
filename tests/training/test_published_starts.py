"""Training from published kinds of files, texts as features: films to shards, to what generates."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml
from accelerate import PartialState

from harmony_core.checkpoints import load_transformer
from harmony_core.checkpoints.lora import apply_lora
from harmony_core.media import write_video
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline, PartFiles
from harmony_core.toyworld import render, sample_scene
from harmony_core.training.data.buckets import Buckets
from harmony_core.training.data.encode import encode_dataset
from harmony_core.training.data.shards import Shards
from harmony_core.training.trainer import run


def files_of(parts: dict[str, Path], name: str) -> PartFiles:
    audio = () if name == "wan" else (parts["audio_vae"], parts["vocoder"])
    return PartFiles(
        model=[parts[name]],
        video_vae=parts["video_vae"],
        audio_vae=audio,
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
    )


def encode(parts: dict[str, Path], name: str, folder: Path) -> Path:
    """Two short films."""
    pipeline = HarmonyPipeline.from_parts(files_of(parts, name))
    rows = []
    for number in range(2):
        clip = render(sample_scene(np.random.default_rng(number), "ball"))
        sound = np.atleast_2d(clip.audio).astype(np.float32)
        write_video(folder / f"{number}.mp4", clip.video[:12, :32, :32], Fraction(24), sound, 16000)
        rows.append({"video": f"{number}.mp4", "prompt": "a red ball", "transcript": "hello"})
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    encode_dataset(folder / "clips.jsonl", folder / "shards", pipeline, Buckets.of(pipeline.config), PartialState())
    return folder / "shards"


def write(folder: Path, start: dict, **changes) -> Path:
    settings = {
        "start": start,
        "steps": 2,
        "batch_size": 2,
        "data": {"shards": str(folder / "shards")},
        "objective": {"reference_share": 0, "text_dropout": 0.5},
        "optimizer": {"kind": "adamw", "adamw_lr": 1e-2, "warmup_steps": 1, "decay_share": 0, "ema": 0},
        "log_every": 1,
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(settings | changes))
    return path


@pytest.mark.parametrize("name", ["harmony", "ovi"])
def test_a_lora_from_films_with_samples(parts: dict[str, Path], tmp_path: Path, name: str) -> None:
    encode(parts, name, tmp_path)
    assert Shards(tmp_path / "shards").settings.text == "features"
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a red ball hits wood", "steps": 2}\n')
    files = {each: str(parts[each]) for each in ("video_vae", "text_encoder", "tokenizer")}
    start = {"model": str(parts[name]), "audio_vae": [str(parts["audio_vae"]), str(parts["vocoder"])], **files}
    config = write(
        tmp_path,
        start,
        lora={"rank": 2},
        frozen="bfloat16",
        samples={"prompts": str(tmp_path / "prompts.jsonl")},
    )
    path = run(config, tmp_path / "run", resume=False)
    assert len(list((tmp_path / "run" / "samples").glob("step-*/01.mp4"))) == 2
    pipeline = HarmonyPipeline.from_parts(files_of(parts, name))
    before = pipeline(GenerateRequest(prompt="a red ball", steps=2))
    apply_lora(pipeline.transformer, path)
    after = pipeline(GenerateRequest(prompt="a red ball", steps=2))
    assert not np.array_equal(before.samples, after.samples)


def test_harmony_from_wan_is_a_checkpoint_that_generates(
    parts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The files of Wan alone to start from; the branch and the interactions of the sound are made."""
    caplog.set_level("INFO")
    encode(parts, "harmony", tmp_path)
    config, _ = load_transformer([parts["harmony"]])
    changes = {name: value for name, value in config.to_dict().items() if name not in ("interaction", "audio")}
    path = run(
        write(tmp_path, {"model": str(parts["wan"])}, preset="harmony-5b", model=changes),
        tmp_path / "run",
        resume=False,
    )
    assert "video: all " in caplog.text
    assert "interactions: its own first weights: the file has none" in caplog.text
    trained = PartFiles(**(vars(files_of(parts, "harmony")) | {"model": [path]}))
    clip = HarmonyPipeline.from_parts(trained)(GenerateRequest(prompt="a red ball", transcript="hello", steps=2))
    assert clip.frames.shape == (9, 32, 32, 3)
    assert clip.samples is not None


def test_what_is_not_trained_here_is_refused_with_what_is(parts: dict[str, Path], tmp_path: Path) -> None:
    encode(parts, "harmony", tmp_path)
    with pytest.raises(ValueError, match="a video model alone is not trained here; set preset to harmony-5b"):
        run(write(tmp_path, {"model": str(parts["wan"])}), tmp_path / "run", resume=False)
