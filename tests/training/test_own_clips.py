"""Training on shards of files, from weights that are there: what is trained, what stays, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from harmony_core.checkpoints import load_bundle, load_transformer
from harmony_core.checkpoints.lora import apply_lora
from harmony_core.diffusion.latents import AVLatents
from harmony_core.model.inputs import VideoInput
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.training.config import TrainingConfig
from harmony_core.training.data.loader import Batches
from harmony_core.training.data.shards import Shards
from harmony_core.training.losses import row_losses
from harmony_core.training.sections import ObjectiveConfig
from harmony_core.training.start import Models, choose_trained, start_models
from harmony_core.training.step import step_losses
from harmony_core.training.tasks import draw_levels, noise_rows, task_rows
from harmony_core.training.trainer import run
from tests.checkpoints.test_wan import WAN, wan_config

CLIPS = 5


def write(path: Path, shards: Path, **changes) -> Path:
    settings = {
        "start": {"model": "harmony-tiny"},
        "steps": 3,
        "batch_size": 2,
        "data": {"shards": str(shards)},
        "objective": {"reference_share": 0},
        "optimizer": {"kind": "adamw", "adamw_lr": 1e-2, "warmup_steps": 1, "decay_share": 0, "ema": 0},
        "log_every": 1,
    }
    path.write_text(yaml.safe_dump(settings | changes))
    return path


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_lora_for_video_changes_what_is_seen_and_nothing_else(shards: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a red ball bounces on metal", "steps": 2, "seed": 3}\n')
    config = write(
        tmp_path / "look.yaml",
        shards,
        lora={"rank": 4, "targets": "video"},
        data={"shards": str(shards), "validation": 2},
        samples={"prompts": str(prompts), "every": 2},
    )
    path = run(config, tmp_path / "run", resume=False)
    names = load_file(path)
    assert names
    assert all(name.startswith("diffusion_model.blocks.") for name in names)
    seen = {each.name for each in (tmp_path / "run" / "samples").iterdir()}
    assert seen == {"step-00000000", "step-00000002", "step-00000003"}
    logged = lines(tmp_path / "run")
    looks = [line for line in logged if "validation/joint/video" in line]
    assert [line["step"] for line in looks] == [0, 2, 3]
    assert looks[0]["validation/joint/video"] != looks[-1]["validation/joint/video"]
    before, after = load_bundle("harmony-tiny"), load_bundle("harmony-tiny")
    apply_lora(after.transformer, path)
    for name, weight in before.transformer.named_parameters():
        moved = not torch.equal(weight, after.transformer.get_parameter(name))
        assert moved == (f"diffusion_model.{name.removesuffix('.weight')}.alpha" in names), name
    # Where the picture is not listened to, the sound is the same to the bit.
    request = GenerateRequest(prompt="a red ball bounces on metal", steps=2, seed=3)
    clip, other = HarmonyPipeline(before)(request), HarmonyPipeline(after)(request)
    assert not np.array_equal(clip.frames, other.frames)
    at_the_end = load_file(tmp_path / "run" / "samples" / "step-00000003" / "latents.safetensors")
    torch.testing.assert_close(at_the_end["01.video"], other.latents_video, atol=2e-3, rtol=1e-3)


def test_a_validation_loss_is_a_mean_over_the_batches_that_have_it(shards: Path, tmp_path: Path) -> None:
    """Of the two films that are held back here one is mute, and each is a batch of its own."""
    shutil.copytree(shards, tmp_path / "shards")
    index = tmp_path / "shards" / "index.jsonl"
    index.write_text("".join(reversed(index.read_text().splitlines(keepends=True))))
    held = {"data": {"shards": str(tmp_path / "shards"), "validation": 2}}
    config = write(tmp_path / "a.yaml", tmp_path / "shards", steps=1, **held)
    run(config, tmp_path / "run", resume=False)
    settings = TrainingConfig.from_yaml(config, ["seed=1"])  # a look draws by the seed with its last bit turned
    model = choose_trained(start_models(settings), settings, ids=True).eval()
    batches, device = Batches(Shards(tmp_path / "shards"), 2, only=[3, 4]), torch.device("cpu")
    with torch.no_grad():
        ((_, one),), ((_, other),) = (
            step_losses(settings, model, batches, batches.at(step), step, device) for step in range(2)
        )
    assert not one.keys() & other.keys()
    expected = {f"validation/{name}": float(value) for name, value in (one | other).items()}
    found = lines(tmp_path / "run")[0]
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_a_branch_alone_is_trained_and_sound_alone_reads_no_picture(shards: Path, tmp_path: Path) -> None:
    config = write(
        tmp_path / "audio.yaml",
        shards,
        train="audio",
        objective={"kind": "audio", "reference": "same_clip", "reference_share": 1, "reference_latents": [4, 8]},
    )
    path = run(config, tmp_path / "run", resume=False)
    told = {name for name in lines(tmp_path / "run")[0] if "/" in name}
    assert told == {"alone/audio", "gradient/audio"}
    before, after = load_bundle("harmony-tiny").transformer, load_bundle(path).transformer
    for name, weight in before.named_parameters():
        if not name.startswith(("audio.", "speech.")):
            assert torch.equal(weight, after.get_parameter(name)), name
    assert not torch.equal(before.audio.blocks[0].ffn[0].weight, after.audio.blocks[0].ffn[0].weight)


def test_parts_of_a_batch_add_up_and_layers_may_be_computed_again(shards: Path, tmp_path: Path) -> None:
    """Accumulation and activation checkpointing change how much is held, and nothing else."""
    # Six parts of two clips: a task each, of which the mute film has one.
    for name, changes in (("whole", {}), ("parts", {"accumulation": 6}), ("again", {"activation_checkpointing": True})):
        run(write(tmp_path / f"{name}.yaml", shards, **changes), tmp_path / name, resume=False)
    whole, parts, again = (
        [{key: value for key, value in line.items() if "/" in key} for line in lines(tmp_path / name)]
        for name in ("whole", "parts", "again")
    )
    assert "alone/video" in {key for line in whole for key in line}  # the mute film
    for one, other, third in zip(whole, parts, again, strict=True):
        assert other == pytest.approx(one, rel=2e-4)
        assert third == pytest.approx(one, rel=1e-5)


def test_a_killed_run_goes_on_as_if_it_had_not_been(shards: Path, tmp_path: Path) -> None:
    config = write(tmp_path / "a.yaml", shards, steps=6, save_every=2, lora={"rank": 2, "dropout": 0.1})
    run(config, tmp_path / "whole", resume=False)
    command = [sys.executable, "-m", "harmony_core", "train", "-c", str(config), "-o", str(tmp_path / "cut")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "cut").glob("state-*")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "lora.safetensors").exists()
    run(config, tmp_path / "cut", resume=True)
    one, other = (load_file(tmp_path / name / "lora.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    curve = {line["step"]: line["joint/video"] for line in lines(tmp_path / "cut") if "joint/video" in line}
    assert (
        curve.items() >= {x["step"]: x["joint/video"] for x in lines(tmp_path / "whole") if "joint/video" in x}.items()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "video", "objective": {"kind": "audio"}}, "teaches the sound alone, but what is trained is video"),
        ({"lora": {"targets": "interactions"}, "objective": {"kind": "audio"}}, "is trained is interactions"),
        ({"data": {"shards": "{}", "validation": CLIPS}}, "data.validation is 5, .* holds 5 clips"),
        ({"lora": {}, "train": "video"}, "train is video, but a LoRA says what it trains"),
        ({"frozen": "float8"}, "frozen is float8, but what is not trained is saved with the checkpoint"),
        ({"frozen": "int4", "lora": {}}, "frozen is 'int4', but must be one of float32, bfloat16, float8"),
        ({"samples": {"every": 5}}, "samples.every is 5, but there are no samples.prompts"),
        ({"accumulation": 7}, "accumulation is 7, but a batch of 2 has at most 6 parts in each of 1 process"),
        ({"frozen_on": "host", "lora": {}}, "frozen_on is host, but frozen is float32"),
        ({"frozen_on": "disk", "lora": {}}, "frozen_on is 'disk', but must be one of device, host"),
        ({"start": None}, "preset is empty, but start is left out as well"),
        ({"start": None, "preset": "harmony-tiny"}, "ids of words for a small text encoder"),
        ({"start": {"model": "nothing.safetensors"}}, "There is no checkpoint file nothing.safetensors"),
        ({"start": {"model": "harmony-tiny", "video_vae": "x"}}, "also need start.text_encoder, start.tokenizer"),
    ],
)
def test_what_cannot_be_trained_is_an_error_before_the_first_step(
    shards: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    if "data" in changes:
        changes = changes | {"data": changes["data"] | {"shards": str(shards)}}
    config = write(tmp_path / "wrong.yaml", shards, **changes)
    with pytest.raises(ValueError, match=message):
        run(config, tmp_path / "run", resume=False)
    assert not list((tmp_path / "run").glob("state-*"))


@pytest.mark.parametrize("resume", [False, True])
def test_a_start_that_failed_is_mended_in_its_folder(shards: Path, tmp_path: Path, resume: bool) -> None:
    with pytest.raises(ValueError, match=r"holds no index\.jsonl"):
        run(write(tmp_path / "a.yaml", tmp_path / "shads"), tmp_path / "run", resume=False)
    path = run(write(tmp_path / "a.yaml", shards, steps=1, lora={"rank": 1}), tmp_path / "run", resume=resume)
    assert path.exists()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["shards"] == str(shards)


def test_prompts_may_come_later(shards: Path, tmp_path: Path) -> None:
    """A run that goes on with samples has none from before its first step to hold its last against."""
    run(write(tmp_path / "a.yaml", shards, lora={"rank": 1}), tmp_path / "run", resume=False)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a red ball", "steps": 1}\n')
    later = write(tmp_path / "b.yaml", shards, lora={"rank": 1}, steps=4, samples={"prompts": str(prompts)})
    run(later, tmp_path / "run", resume=True)
    assert [each.name for each in (tmp_path / "run" / "samples").iterdir()] == ["step-00000004"]


def test_what_cannot_teach_is_left_out(shards: Path, tmp_path: Path) -> None:
    """No sound here has a reference of another clip; the mute film needs none, and teaches no interaction."""
    only_references = {"objective": {"reference_share": 1.0}, "batch_size": 1}
    run(write(tmp_path / "a.yaml", shards, **only_references), tmp_path / "run", resume=False)
    names = {name for line in lines(tmp_path / "run") for name in line if "/" in name}
    assert {name for name in names if not name.startswith("gradient/")} == {"alone/video"}
    with pytest.raises(ValueError, match="no clip with video and audio that has a reference by the rule other_clip"):
        run(write(tmp_path / "b.yaml", shards, train="interactions", **only_references), tmp_path / "b", resume=False)


def test_harmony_from_wan_starts_with_wans_own_loss(tmp_path: Path) -> None:
    """Fresh audio and interactions, whose outputs are zero, change nothing of what the video branch predicts."""
    recorded = wan_config()
    sizes = ("dim", "ffn_dim", "num_heads", "num_layers", "freq_dim", "text_dim", "text_len", "video_channels")
    model = {name: getattr(recorded, name) for name in sizes} | {
        "patch_size": list(recorded.patch_size),
        "speech": None,
    }
    config = TrainingConfig.from_yaml(
        write(
            tmp_path / "a.yaml",
            tmp_path,
            preset="harmony-5b",
            model=model,
            start={"model": str(WAN / "weights_original.safetensors")},
        ),
        [],
    )
    models = start_models(config)
    assert models.origin["video"].startswith("all ")
    assert models.origin["audio"] == "its own first weights: the file has none"
    generator = torch.Generator().manual_seed(0)
    clean = AVLatents(
        torch.randn(2, recorded.video_channels, 3, 4, 4, generator=generator),
        torch.randn(2, 20, 9, generator=generator),
    )
    rows = task_rows([(True, True)] * 2, config.objective)[:2]
    levels = draw_levels(rows, 3, 9, config.objective, generator)
    batch = noise_rows(clean, rows, levels, [0, 1], [5, 6])
    text = torch.randn(2, 7, recorded.text_dim, generator=generator)
    with torch.no_grad():
        harmony = row_losses(choose_trained(models, config, ids=False)(batch, text, text, None, None), batch)
        wan = load_transformer(WAN / "weights_original.safetensors", config=recorded)[1]
        alone, _ = wan(VideoInput(batch.noisy.video, batch.sigmas.video, text))
    assert torch.equal(harmony.video, row_losses(AVLatents(alone, batch.velocity.sound), batch).video)


def test_clips_of_other_models_are_refused(shards: Path) -> None:
    bundle = load_bundle("harmony-tiny")
    models = Models(bundle.config, bundle.transformer, bundle.text_encoder, bundle.video_vae, bundle.audio_vae)
    models.check(Shards(shards), ObjectiveConfig())
    with torch.no_grad():
        next(bundle.video_vae.parameters()).mul_(1.5)
    with pytest.raises(ValueError, match="were encoded with video_autoencoder"):
        models.check(Shards(shards), ObjectiveConfig())


def test_half_precision_is_computed_in_and_the_weights_stay_whole(shards: Path, tmp_path: Path) -> None:
    config = TrainingConfig.from_yaml(write(tmp_path / "a.yaml", shards, precision="bfloat16"), [])
    bundle = load_bundle("harmony-tiny")
    models = Models(bundle.config, bundle.transformer, bundle.text_encoder, bundle.video_vae, bundle.audio_vae)
    assert {each.dtype for _, each in choose_trained(models, config, ids=True).trained()} == {torch.float32}
    AcceleratorState._reset_state()  # a process computes in one precision
    run(tmp_path / "a.yaml", tmp_path / "run", resume=False)
    AcceleratorState._reset_state()
    run(write(tmp_path / "b.yaml", shards), tmp_path / "whole", resume=False)
    half, whole = (lines(tmp_path / name)[0]["joint/video"] for name in ("run", "whole"))
    assert half == pytest.approx(whole, rel=0.05)
    assert half != whole
