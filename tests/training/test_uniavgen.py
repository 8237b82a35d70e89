"""UniAVGen's own tasks: films to shards, shards to what its sampler sends, and on to files that generate."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
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
from harmony_core.diffusion.latents import AVLatents
from harmony_core.media import write_video
from harmony_core.model.roles import AUDIO_GIVEN, JOINT, VIDEO_GIVEN
from harmony_core.model.speech import FILLER
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.text.transcripts import words_across
from harmony_core.training.config import TrainingConfig
from harmony_core.training.data.batch import Voice
from harmony_core.training.data.buckets import Buckets
from harmony_core.training.data.encode import encode_dataset
from harmony_core.training.data.loader import OTHER_CLIP, Batches, ReferenceRule
from harmony_core.training.data.shards import Shards
from harmony_core.training.losses import row_losses
from harmony_core.training.sections import ObjectiveConfig
from harmony_core.training.start import TrainedModel, choose_trained, start_models
from harmony_core.training.step import step_losses
from harmony_core.training.tasks import NoisedBatch, TaskRow, draw_levels, noise_rows
from harmony_core.training.trainer import run
from harmony_core.training.uniavgen import check_objective
from tests.media.files import write_audio
from tests.training.test_driver_gradients import moved
from tests.uniavgen_toy import PICTURE, RATE, film, sound, toy_files

OBJECTIVE = {"first_frame_share": 1, "prefix_share": 0, "text_dropout": 0.3}
GREETING = {"prompt": "a red ball", "transcript": "Hi there"}


@pytest.fixture(scope="module")
def files(parts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> PartFiles:
    return toy_files(parts, tmp_path_factory.mktemp("uniavgen"))


@pytest.fixture(scope="module")
def pipeline(files: PartFiles) -> HarmonyPipeline:
    return HarmonyPipeline.from_parts(files)


@pytest.fixture(scope="module")
def clips(pipeline: HarmonyPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest and its shards: two clips of one speaker, one whose voice is in a file, and what cannot
    be used."""
    folder = tmp_path_factory.mktemp("clips")
    for number, frames in enumerate((81, 81, 81, 40)):
        clip, heard = film(frames), sound(frames / 16, 5 + number)
        write_video(folder / f"{number}.mp4", clip.frames, clip.fps, heard.samples, RATE)
    write_audio(folder / "voice.wav", "pcm_s16le", RATE, "mono", sound(0.5).samples[0])
    rows = [
        {"id": "anna", "video": "0.mp4", "speaker": "anna", **GREETING},
        {"id": "also anna", "video": "1.mp4", "prompt": "a ball", "speaker": "anna", "transcript": "Good day"},
        {"id": "bob", "video": "2.mp4", "prompt": "wood", "reference": "voice.wav", "reference_transcript": "Yes."},
        {"id": "short", "video": "3.mp4", "prompt": "wood"},
        {"id": "wordless voice", "video": "2.mp4", "prompt": "wood", "reference": "voice.wav"},
        {"id": "italian", "video": "2.mp4", "transcript": "ciao", "language": "it"},
    ]
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    buckets = Buckets.of(pipeline.config, sizes=[(32, 32)])
    encode_dataset(folder / "clips.jsonl", folder / "shards", pipeline, buckets, PartialState())
    return folder


def test_shards_hold_the_published_form(clips: Path, pipeline: HarmonyPipeline) -> None:
    shards = Shards(clips / "shards")
    assert [entry.id for entry in shards.entries] == ["anna", "also anna", "bob"]
    reasons = [json.loads(line)["reason"] for line in (clips / "shards" / "rejected.jsonl").read_text().splitlines()]
    assert "40 frames at 16 fps, but the shortest bucket 81 (5.06 s); this model was trained on clips of" in reasons[0]
    assert "reference is given without reference_transcript" in reasons[1]
    assert "language is 'it'; choose one of en, zh" in reasons[2]
    anna, _, bob = (shards[index] for index in range(3))
    for sample in (anna, bob):
        assert sample.video is not None
        assert sample.audio is not None
        assert (sample.video.shape, sample.audio.shape) == ((48, 21, 2, 2), (80, 506))
    speech = pipeline.config.speech
    assert speech is not None
    assert anna.transcript is not None
    assert anna.transcript.tolist() == words_across("Hi there", speech)
    assert anna.voice is not None
    assert anna.voice.shape == (80, 536)  # and 0.3 s of silence
    torch.testing.assert_close(anna.voice[:, 510:], torch.full((80, 26), -2.9417).half())
    assert bob.transcript is not None
    assert (bob.transcript.tolist(), bob.voice) == ([], None)
    assert bob.reference is not None
    assert bob.spoken is not None
    assert bob.reference.shape == (80, 80)
    assert bob.spoken.tolist() == words_across("Yes.", speech)


def test_films_keep_their_shapes_and_have_one_length(pipeline: HarmonyPipeline) -> None:
    config = pipeline.config.with_(height=32, width=64)
    geometry = Buckets.of(config).film(90, 160, config_fps := Buckets.of(config).rates[0], 81)
    assert (geometry.width, geometry.height, geometry.fps, geometry.num_frames) == (32, 64, config_fps, 81)
    assert geometry.num_audio_latents == 506
    assert Buckets.of(config, seconds=[5.06]).lengths(config_fps) == [81]  # two decimals of its own
    with pytest.raises(ValueError, match=r"seconds is 3, but this checkpoint was trained on clips of 5\.0625 alone"):
        Buckets.of(config, seconds=[3])
    with pytest.raises(ValueError, match="fps is 24, but this checkpoint was trained on clips of 16 alone"):
        Buckets.of(config, rates=[24])


def test_the_first_latent_is_that_of_the_first_frame(pipeline: HarmonyPipeline) -> None:
    frames = film().frames
    whole, alone = pipeline.encode_video(frames), pipeline.encode_video(frames[:1])
    torch.testing.assert_close(whole[:, :, :1], alone)


def test_other_forms_are_refused_before_anything_is_read(
    harmony: Callable, clips: Path, files: PartFiles, tmp_path: Path
) -> None:
    parts = ["-m", files.model[0], "--video-vae", files.video_vae, "--audio-vae", *files.audio_vae]
    parts += ["--text-encoder", files.text_encoder, "--tokenizer", files.tokenizer, "-o", tmp_path / "set"]
    code, _, err = harmony("encode", clips / "clips.jsonl", *parts, "--seconds", 3)
    assert (code, "trained on clips of 5.0625 alone; leave --seconds out" in err) == (2, True)
    assert not (tmp_path / "set").exists()
    code, _, err = harmony("encode", clips / "clips.jsonl", *parts, "--size", "32x32")
    assert (code, "not usable: 3 rows" in err) == (1, True)
    one, other = Shards(tmp_path / "set"), Shards(clips / "shards")
    assert [entry.checksum for entry in one.entries] == [entry.checksum for entry in other.entries]


TASKS = {
    "joint": {"image": PICTURE},
    "voice": {"image": PICTURE, "reference_audio": sound(0.5), "reference_transcript": "Yes."},
    "audio_to_video": {"image": PICTURE, "audio": sound(5.0)},
    "video_to_audio": {"video": film()},
}
ROLES = {"joint": JOINT, "voice": JOINT, "audio_to_video": AUDIO_GIVEN, "video_to_audio": VIDEO_GIVEN}


@torch.no_grad()
def test_a_row_of_every_task_is_the_samplers_positive_pass(pipeline: HarmonyPipeline) -> None:
    """All four in one batch, at the sampler's own latents and noise levels; the sound of the fifth is another's."""
    seen, words = [], {"negative_scale": 1, "sync_scale": 1}
    hook = pipeline.transformer.register_forward_hook(lambda _, inputs, outputs: seen.append((inputs, outputs)))
    off = {f"{stream}_{name}": value for stream in ("video", "audio") for name, value in words.items()}
    passes = {}
    for task, media in TASKS.items():
        seen.clear()
        pipeline(GenerateRequest(**GREETING, **media, **off, width=32, height=32, steps=4))
        assert len(seen) == 4
        passes[task] = seen[1]  # of the schedule's 0.91..., where nothing is special
    hook.remove()
    speech = pipeline.config.speech
    assert speech is not None
    voice = Voice(pipeline.encode_voice(sound(0.5), None, [])[0], torch.tensor(words_across("Yes.", speech)))
    inputs = [inputs for inputs, _ in passes.values()]
    noisy = AVLatents(*(torch.cat([each[side].latents for each in inputs]) for side in (0, 1)))
    sigmas = AVLatents(*(torch.cat([each[side].sigma for each in inputs]) for side in (0, 1)))
    assert 0.1 < float(sigmas.video[0, -1]) < 0.95
    masks = sigmas.map(lambda x: (x > 0).float())
    roles = tuple(ROLES.values())
    batch = NoisedBatch(roles, noisy, sigmas, masks, noisy)
    text = torch.cat([video.context for video, *_ in inputs])
    own = torch.tensor([words_across("Hi there", speech)] * 4)
    padded = torch.cat((own, torch.full((4, 3), FILLER)), dim=1)
    model = TrainedModel(pipeline.transformer, None).eval()
    found = model(batch, text, text, padded, None, (None, voice, voice, voice))  # driven rows do not hear theirs
    for row, (task, (_, wanted)) in enumerate(passes.items()):
        if ROLES[task] != VIDEO_GIVEN:
            torch.testing.assert_close(found.video[row], wanted[0][0], atol=1e-5, rtol=1e-5)
        if ROLES[task] != AUDIO_GIVEN:
            torch.testing.assert_close(found.sound[row], wanted[1][0], atol=1e-5, rtol=1e-5)
    other = model(batch, text, text, padded, None, (None, None, voice, voice))
    assert not torch.allclose(found.sound[1], other.sound[1], atol=1e-3)


@torch.no_grad()
def test_words_that_are_dropped_are_a_space_behind_a_voices(pipeline: HarmonyPipeline) -> None:
    """As in the sampler's negative pass."""
    batch, (text, _, words, _) = trained_batch(JOINT)
    seen: list[torch.Tensor] = []
    hook = pipeline.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].transcript))
    model, voice = TrainedModel(pipeline.transformer, None), Voice(torch.randn(80, 40), torch.tensor([4, 5]))
    model(batch, text, text, words * 0, None, (voice, None))
    hook.remove()
    assert [ids.tolist() for ids in seen] == [[[1] + [FILLER] * 9], [[4, 5, 1] + [FILLER] * 7]]


def trained_batch(role: str) -> tuple[NoisedBatch, tuple]:
    """Two rows of a task as a step makes them, and what is read beside them."""
    generator = torch.Generator().manual_seed(3)
    clean = AVLatents(torch.randn(2, 48, 21, 2, 2, generator=generator), torch.randn(2, 80, 506, generator=generator))
    rows = [TaskRow(clip, role, role != VIDEO_GIVEN, role != AUDIO_GIVEN) for clip in range(2)]
    levels = draw_levels(rows, 21, 506, ObjectiveConfig(**OBJECTIVE), generator)
    text, words = torch.randn(2, 5, 24, generator=generator), torch.randint(1, 9, (2, 12), generator=generator)
    return noise_rows(clean, rows, levels, range(2), range(2)), (text, text, words, None)


@pytest.mark.parametrize("role", [AUDIO_GIVEN, VIDEO_GIVEN])
def test_a_driven_task_teaches_its_driver_nothing_of_its_own(files: PartFiles, role: str) -> None:
    model = TrainedModel(HarmonyPipeline.from_parts(files).transformer.requires_grad_(True), None)
    batch, beside = trained_batch(role)
    given, made = (batch.sigmas.sound, batch.sigmas.video) if role == AUDIO_GIVEN else batch.sigmas
    assert not given.any()
    assert not batch.sigmas.video[:, 0].any()  # the picture
    assert bool((made[:, 1:] > 0).all())
    losses = row_losses(model(batch, *beside), batch)
    (losses.video + losses.sound).sum().backward()
    transformer = model.transformer
    driver, driven = (transformer.audio, transformer) if role == AUDIO_GIVEN else (transformer, transformer.audio)
    silent, heard = ("v2a", "a2v") if role == AUDIO_GIVEN else ("a2v", "v2a")
    assert not moved(driver.head)
    assert moved(driven.head)
    assert moved(driver.blocks[0].self_attn)  # whose keys and values the other reads
    for interaction in transformer.interactions:
        assert moved(getattr(interaction, heard))
        assert not moved(getattr(interaction, silent).o)


def test_behind_a_voice_the_sound_learns_nothing_of_the_picture(files: PartFiles) -> None:
    model = TrainedModel(HarmonyPipeline.from_parts(files).transformer.requires_grad_(True), None)
    batch, beside = trained_batch(JOINT)
    voice = Voice(torch.randn(80, 40), torch.tensor([4, 5]))
    row_losses(model(batch, *beside, (voice, voice)), batch).sound.sum().backward()
    assert moved(model.transformer.audio.head)
    assert not moved(model.transformer.blocks)
    model.zero_grad()
    row_losses(model(batch, *beside), batch).sound.sum().backward()
    assert moved(model.transformer.blocks)


def test_voices_are_whole_and_come_with_their_words(clips: Path) -> None:
    shards = Shards(clips / "shards")
    batches = Batches(shards, 3, reference=ReferenceRule(OTHER_CLIP, (8, 12)))
    assert batches.left_out == []
    batch = batches.at(0)
    assert batch.reference is None
    voices = dict(zip(batch.ids, batch.voices, strict=True))
    anna, also, bob = (shards[index] for index in range(3))
    for name, latents, words in (
        ("anna", also.voice, also.transcript),
        ("also anna", anna.voice, anna.transcript),
        ("bob", bob.reference, bob.spoken),
    ):
        voice = voices[name]
        assert voice is not None
        assert torch.equal(voice.latents, latents.float())
        assert torch.equal(voice.words, words)
    assert Batches(shards, 3).at(0).voices == ()


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
