"""Runs of UniAVGen's own tasks, from shards to files that generate."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate import PartialState
from safetensors.torch import load_file

from harmony_core.checkpoints.lora import apply_lora
from harmony_core.checkpoints.parts import PartFiles
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.training.config import TrainingConfig
from harmony_core.training.data.batch import Voice
from harmony_core.training.data.buckets import Buckets
from harmony_core.training.data.encode import encode_dataset
from harmony_core.training.data.loader import Batches
from harmony_core.training.data.shards import Shards
from harmony_core.training.sections import ObjectiveConfig
from harmony_core.training.start import choose_trained, start_models
from harmony_core.training.step import step_losses
from harmony_core.training.trainer import run
from harmony_core.training.uniavgen import check_objective
from tests.media.files import write_audio
from tests.uniavgen_toy import GREETING, OBJECTIVE, PICTURE, RATE, sound


def test_a_step_moves_its_voices_to_the_model(clips: Path, files: PartFiles, tmp_path: Path) -> None:
    """The meta device refuses tensors of the CPU, as a GPU does."""
    config = TrainingConfig.from_yaml(settings(tmp_path, clips, files), [])
    model, seen = choose_trained(start_models(config), config, ids=False), []

    def forward(*_: object, voices: tuple[Voice, ...]) -> None:
        seen.extend(x.device.type for voice in voices for x in voice)
        raise StopIteration

    model.forward = forward
    batches = Batches(Shards(clips / "shards"), 3, reference=config.objective.references)
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(step_losses(config, model, batches, batches.at(0), 0, torch.device("meta")))
    assert seen == ["meta"] * 18  # of nine rows


def settings(folder: Path, clips: Path, files: PartFiles, **changes) -> Path:
    values = {
        "start": {"model": str(files.model[0])},
        "steps": 2,
        "batch_size": 3,
        "data": {"shards": str(clips / "shards")},
        "objective": {"reference_share": 1, **OBJECTIVE},
        "optimizer": {"kind": "adamw", "adamw_lr": 1e-2, "warmup_steps": 1, "decay_share": 0, "ema": 0},
        "log_every": 1,
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def request_of(folder: Path) -> str:
    """A line of prompts with a voice, small."""
    from PIL import Image

    Image.fromarray(PICTURE).save(folder / "face.png")
    return json.dumps(GREETING | {"image": "face.png", "width": 32, "height": 32, "steps": 2}) + "\n"


def test_all_of_it_from_published_weights_to_a_checkpoint(
    clips: Path, files: PartFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = run(settings(tmp_path, clips, files), tmp_path / "run", resume=False)
    assert "interactions: uniavgen.safetensors" in caplog.text
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"joint/video", "joint/audio", "audio_driven/video", "video_driven/audio"} <= set(logged[0])
    request = GenerateRequest(**GREETING, image=PICTURE, width=32, height=32, steps=2)
    clip = HarmonyPipeline.from_parts(files)(request)
    trained = HarmonyPipeline.from_parts(replace(files, model=[path]))
    other = trained(request)
    assert other.frames.shape == (81, 32, 32, 3)
    assert clip.samples is not None
    assert other.samples is not None
    assert not np.array_equal(clip.samples, other.samples)
    assert load_file(path)["audio.padding"].isfinite().all()


def test_a_lora_with_samples_that_goes_on(clips: Path, files: PartFiles, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text(request_of(tmp_path))
    named = {name: str(getattr(files, name)) for name in ("video_vae", "text_encoder", "tokenizer")}
    start = {"model": str(files.model[0]), "audio_vae": [str(each) for each in files.audio_vae], **named}
    changes = {"lora": {"rank": 2}, "frozen": "bfloat16", "start": start, "save_every": 2}
    changes["objective"] = {"kind": "split_batch", "audio_driven_share": 0.34, "video_driven_share": 0.33} | OBJECTIVE
    changes["objective"]["reference_share"] = 0.5
    prompts = {"samples": {"prompts": str(tmp_path / "prompts.jsonl")}}
    config = settings(tmp_path, clips, files, **changes, **prompts, steps=4, keep=2)
    whole = run(config, tmp_path / "whole", resume=False)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", ignore=lambda *_: ["state-00000004", "lora.safetensors"])
    cut = run(config, tmp_path / "cut", resume=True)
    one, other = load_file(whole), load_file(cut)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (tmp_path / "cut" / "samples" / "step-00000004" / "01.mp4").is_file()
    pipeline = HarmonyPipeline.from_parts(files)
    request = GenerateRequest(**GREETING, image=PICTURE, width=32, height=32, steps=2)
    before = pipeline(request)
    apply_lora(pipeline.transformer, cut)
    assert not np.array_equal(before.samples, pipeline(request).samples)


def test_what_is_never_read_is_never_trained(files: PartFiles, clips: Path, tmp_path: Path) -> None:
    config = TrainingConfig.from_yaml(settings(tmp_path, clips, files), [])
    frozen = [
        name
        for name, each in choose_trained(start_models(config), config, ids=False).named_parameters()
        if not each.requires_grad
    ]
    assert frozen == ["transformer.audio.padding"]


def test_other_objectives_and_other_shards_are_refused(clips: Path, files: PartFiles, tmp_path: Path) -> None:
    check_objective(ObjectiveConfig(**OBJECTIVE, reference_share=0, reference="same_clip"))
    with pytest.raises(ValueError, match=r"objective.first_frame_share 1.0 \(it is 0.1\), objective.prefix_share 0.0"):
        check_objective(ObjectiveConfig())
    wrong = settings(tmp_path, clips, files, objective=OBJECTIVE | {"reference": "same_clip"})
    with pytest.raises(ValueError, match=r"set objective.reference other_clip \(it is same_clip\)"):
        run(wrong, tmp_path / "run", resume=False)
    models = start_models(TrainingConfig.from_yaml(settings(tmp_path, clips, files), []))
    models.config = models.config.with_(audio_latent_rate="50")
    with pytest.raises(ValueError, match="were encoded with audio_latent_rate 100"):
        models.check(Shards(clips / "shards"), ObjectiveConfig(**OBJECTIVE))


def test_sounds_alone_teach_the_sound(pipeline: HarmonyPipeline, files: PartFiles, tmp_path: Path) -> None:
    """Without a picture, and behind the voice of another clip."""
    rows = []
    for number, said in enumerate(("Hi there", "Good day")):
        write_audio(tmp_path / f"{number}.wav", "pcm_s16le", RATE, "mono", sound(5.1, 5 + number).samples[0])
        rows.append({"audio": f"{number}.wav", "speaker": "anna", "transcript": said})
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    encode_dataset(tmp_path / "clips.jsonl", tmp_path / "shards", pipeline, Buckets.of(pipeline.config), PartialState())
    objective = {"kind": "audio", "reference_share": 1, **OBJECTIVE}
    path = run(
        settings(tmp_path, tmp_path, files, train="audio", batch_size=2, objective=objective),
        tmp_path / "run",
        resume=False,
    )
    before, after = (
        HarmonyPipeline.from_parts(replace(files, model=[each])).transformer for each in (*files.model, path)
    )
    for name, weight in before.named_parameters():
        if not name.startswith(("audio.", "speech.")):
            torch.testing.assert_close(after.get_parameter(name), weight.bfloat16().float())
    assert not torch.equal(after.audio.blocks[0].ffn[0].weight, before.audio.blocks[0].ffn[0].weight.bfloat16().float())


@pytest.mark.slow
def test_two_processes_see_what_one_does(clips: Path, files: PartFiles, tmp_path: Path) -> None:
    """Though they run rows of other voices, and one of them may have none."""
    objective = {"kind": "three_pass", "reference_share": 0.5, **OBJECTIVE}
    config, logged = settings(tmp_path, clips, files, batch_size=4, steps=3, objective=objective), []
    for processes in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "-m"]
        command += ["harmony_core", "train", "--config", str(config), "--output", str(tmp_path / str(processes))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        lines = (tmp_path / str(processes) / "log.jsonl").read_text().splitlines()
        losses = [{name: value for name, value in json.loads(line).items() if "/" in name} for line in lines]
        logged.append([value for line in losses for value in line.values()])
    assert logged[0] == pytest.approx(logged[1], rel=1e-4)


@pytest.mark.slow
def test_the_shipped_config_trains_a_lora(clips: Path, files: PartFiles, tmp_path: Path) -> None:
    """In bfloat16, frozen layers in 8 bits, a clip at a time; in a process of its own, which has one precision."""
    overrides = [f"start.model={files.model[0]}", f"data.shards={clips / 'shards'}", "steps=2", "log_every=1"]
    overrides += ["batch_size=3", "accumulation=3", "objective.audio_driven_share=0.34", "data.workers=1"]
    command = [sys.executable, "-m", "harmony_core", "train", "-c", "uniavgen", "-o", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, *overrides, "objective.video_driven_share=0.33"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all({"joint/video", "audio_driven/video", "video_driven/audio"} <= set(line) for line in logged)
    pipeline = HarmonyPipeline.from_parts(files)
    before = pipeline.transformer.blocks[0].ffn[0].weight.clone()
    apply_lora(pipeline.transformer, tmp_path / "run" / "lora.safetensors")
    assert not torch.equal(before, pipeline.transformer.blocks[0].ffn[0].weight)
