"""All four tasks of UniAVGen through the pipeline, from files of parts at toy size."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from harmony_core.checkpoints.parts import PartFiles
from harmony_core.media import VideoClip, has_audio, read_video
from harmony_core.model import HarmonyTransformer
from harmony_core.model.speech import ABSENT
from harmony_core.pipelines import HarmonyPipeline
from harmony_core.presets import preset
from harmony_core.request import GenerateRequest
from harmony_core.text.transcripts import tokenize_across
from tests.commands.errors import assert_error
from tests.media.files import write_audio
from tests.published import TEXT_DIM
from tests.uniavgen_toy import PICTURE, SPEECH, files_with, sound


@pytest.fixture(scope="module")
def files(parts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> PartFiles:
    """A toy model with random weights, and the parts that go with it."""
    config = preset("uniavgen").with_(
        dim=64,
        ffn_dim=64,
        num_heads=2,
        audio_dim=32,
        audio_ffn_dim=64,
        audio_num_heads=1,
        num_layers=4,
        interaction_layers=(0, 2),
        negative_skip_layers=(1,),
        freq_dim=32,
        text_dim=TEXT_DIM,
        height=32,
        width=32,
        steps=2,
        speech=SPEECH,
    )
    torch.manual_seed(0)
    model = HarmonyTransformer(config)
    tensors = {key: 0.1 * torch.randn_like(value) for key, value in model.state_dict().items()}
    path = tmp_path_factory.mktemp("uniavgen") / "model.safetensors"
    save_file(tensors, path, metadata={"config": json.dumps({"transformer": config.to_dict()})})
    return files_with(path, parts)


@pytest.fixture(scope="module")
def pipeline(files: PartFiles) -> HarmonyPipeline:
    return HarmonyPipeline.from_parts(files)


def film() -> VideoClip:
    return VideoClip(np.repeat(PICTURE[None], 81, axis=0), Fraction(16))


TASKS = {
    "joint": {"image": PICTURE, "transcript": "Hi there"},
    "voice": {"image": PICTURE, "transcript": "Hi", "reference_audio": sound(0.5), "reference_transcript": "Yes."},
    "audio_to_video": {"image": PICTURE, "audio": sound(5.0), "transcript": "Hi"},
    "video_to_audio": {"video": film(), "transcript": "Hi"},
}


SYNC = {"video_sync_scale": 3.0, "audio_sync_scale": 2.0}


@pytest.mark.parametrize(("task", "guidance"), [*((task, {}) for task in TASKS), ("voice", SYNC)])
def test_tasks(pipeline: HarmonyPipeline, task: str, guidance: dict) -> None:
    off = {"video_negative_scale": 1.0, "audio_negative_scale": 1.0} if guidance else {}
    clip = pipeline(GenerateRequest(prompt="a red ball", **TASKS[task], **guidance, **off))
    assert clip.frames.shape == (81, 32, 32, 3)
    assert clip.latents_audio is not None
    assert clip.latents_audio.shape == (1, 80, 506)
    assert clip.samples is not None
    assert clip.samples.shape == (1, 121500)


def test_silence_is_read_beside_mute_audio(pipeline: HarmonyPipeline) -> None:
    """A space, behind the words of a voice where one is followed."""
    for task, words in (("joint", " "), ("voice", "Yes. ")):
        seen = []
        hook = pipeline.transformer.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs))
        pipeline(GenerateRequest(prompt="a", **TASKS[task], **SYNC, video_negative_scale=1, audio_negative_scale=1))
        hook.remove()
        rows = [row for *_, audio, rows in seen[:2] for row in zip(rows.roles, audio.transcript, strict=True)]
        assert pipeline.config.speech is not None
        wanted = tokenize_across(words, pipeline.config.speech)
        read = [ids[ids != ABSENT] for role, ids in rows if role == "audio_given"]
        assert any(ids.equal(wanted) for ids in read)


def test_the_clip_takes_the_shape_of_the_picture(pipeline: HarmonyPipeline) -> None:
    wide = np.zeros((90, 160, 3), np.uint8)
    geometry = pipeline.geometry(GenerateRequest(prompt="a", image=wide))
    assert (geometry.height, geometry.width) == (32, 64)
    film = VideoClip(np.zeros((81, 32, 32, 3), np.uint8), Fraction(16), size=(90, 160))
    geometry = pipeline.geometry(GenerateRequest(prompt="a", video=film))
    assert (geometry.height, geometry.width) == (64, 32)
    geometry = pipeline.geometry(GenerateRequest(prompt="a", image=wide, width=96, height=32))
    assert (geometry.height, geometry.width) == (32, 96)


def test_a_short_sound_is_followed_by_silence(pipeline: HarmonyPipeline) -> None:
    clip = pipeline(GenerateRequest(prompt="a", image=PICTURE, audio=sound(2.0), transcript="Hi"))
    assert any("silence" in note for note in clip.notes)
    assert clip.latents_audio is not None
    assert clip.latents_audio[..., 300:].std() < 1e-5


def test_what_it_needs_is_said(pipeline: HarmonyPipeline) -> None:
    with pytest.raises(ValueError, match="needs a first frame"):
        pipeline(GenerateRequest(prompt="a", transcript="Hi"))
    with pytest.raises(ValueError, match="without reference_transcript"):
        pipeline(GenerateRequest(prompt="a", image=PICTURE, reference_audio=sound(0.5)))
    with pytest.raises(ValueError, match=r"seconds is 3.*untrained"):
        pipeline(GenerateRequest(prompt="a", image=PICTURE, seconds=3.0))
    clip = pipeline(GenerateRequest(prompt="a", image=PICTURE, seconds=9 / 16, clip_form="untrained"))
    assert len(clip.frames) == 9


def test_command_line(harmony, files: PartFiles, tmp_path: Path) -> None:
    """A clip of a person who speaks, and what is missing said before anything is loaded."""
    Image.fromarray(PICTURE).save(tmp_path / "face.png")
    write_audio(tmp_path / "voice.wav", "pcm_s16le", 24000, "mono", sound(0.5).samples[0])
    parts = ["--model", files.model[0], "--video-vae", files.video_vae, "--audio-vae", *files.audio_vae]
    parts += ["--text-encoder", files.text_encoder, "--tokenizer", files.tokenizer, "--no-plot"]
    voice = ["--reference-audio", tmp_path / "voice.wav", "--reference-transcript", "Yes."]
    words = ["--image", tmp_path / "face.png", "--transcript", "Hi there", *voice]
    out = tmp_path / "clip.mp4"
    code, _, err = harmony("generate", "a red ball", *parts, *words, "-o", out)
    assert code == 0, err
    clip = read_video(out)
    assert (len(clip.frames), clip.fps) == (81, 16)
    assert has_audio(out)
    assert_error(harmony("generate", "a red ball", *parts, "-o", tmp_path / "b.mp4"), "image is missing")
