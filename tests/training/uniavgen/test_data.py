"""Films to shards of UniAVGen's form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harmony_core.checkpoints.parts import PartFiles
from harmony_core.pipelines import HarmonyPipeline
from harmony_core.text.transcripts import words_across
from harmony_core.training.data.buckets import Buckets
from harmony_core.training.data.loader import OTHER_CLIP, Batches, ReferenceRule
from harmony_core.training.data.shards import Shards
from tests.uniavgen_toy import film


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
