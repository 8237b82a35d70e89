"""Scorers: what each needs, what it measures, and that an absence is a reason and never a number."""

from __future__ import annotations

import json
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from harmony_core.benchmarks.quality import held_out
from harmony_core.benchmarks.scorers import FilmClip, NotMeasuredError, ScorerMissingError, ScorerOptions, open_scorers
from harmony_core.benchmarks.scorers.choose import DESYNC
from harmony_core.benchmarks.scorers.command import CommandScorer
from harmony_core.benchmarks.scorers.speech import (
    DnsmosScorer,
    PocketsphinxScorer,
    WhisperScorer,
    spoken_units,
)
from harmony_core.benchmarks.scorers.sync import SyncScorer
from harmony_core.benchmarks.scorers.syncnet import SyncNetScorer
from harmony_core.media import write_video
from harmony_core.toyworld import FPS, SAMPLE_RATE
from harmony_core.toyworld.measures.words import error_rate


@pytest.fixture(scope="module")
def clips() -> list[FilmClip]:
    """A ball and a face as rendered."""
    return [
        FilmClip(
            Path(f"{scene.clip.scene.kind}.mp4"),
            scene.clip.video,
            Fraction(FPS),
            scene.clip.audio,
            SAMPLE_RATE,
            scene.clip.scene.video_caption,
            scene.clip.scene.transcript,
        )
        for scene in held_out(2, reference_seconds=0.48)
    ]


def silent(clip: FilmClip) -> FilmClip:
    return FilmClip(clip.path, clip.frames, clip.fps, None, 0)


def test_what_is_not_there_is_named() -> None:
    scorers, missing = open_scorers(
        ScorerOptions(commands={"beauty": f"{sys.executable} -c 1", "gone": "no-such-program"})
    )
    assert {scorer.title for scorer in scorers} >= {"Harmony sync", "beauty"}
    assert "syncnet_v2.model" in missing["LSE-C, LSE-D (SyncNet)"]
    assert "desync=COMMAND" in missing["DeSync"]
    assert "--whisper" in missing["WER (Whisper)"]
    assert "no-such-program" in missing["gone"]


def test_folders_without_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ScorerMissingError, match=r"sfd_face.pth and no syncnet_v2.model"):
        SyncNetScorer(tmp_path, "cpu")
    with pytest.raises(ScorerMissingError, match=r"config.json"):
        WhisperScorer(tmp_path, "cpu")


def test_sync_tells_a_shift(clips: list[FilmClip]) -> None:
    found = SyncScorer()(clips[0])
    assert found["abs_lag_ms"] < 40
    assert found["av_align"] > 0.5


def test_a_clip_without_sound_is_not_measured(clips: list[FilmClip]) -> None:
    with pytest.raises(NotMeasuredError, match="no sound"):
        SyncScorer()(silent(clips[0]))


def test_a_command_is_given_the_file_and_prints_a_number(clips: list[FilmClip]) -> None:
    def scorer(code: str) -> CommandScorer:
        return CommandScorer(DESYNC, "DeSync", f'{sys.executable} -c "{code}"')

    assert scorer("import sys; print(len(sys.argv[1]) > 0, 0.25)")(clips[0]) == {"desync": 0.25}
    for code, said in (("print()", "no number"), ("print('nan')", "printed nan"), ("raise OSError('full')", "full")):
        with pytest.raises(NotMeasuredError, match=said):
            scorer(code)(clips[0])


def test_dnsmos_hears_noise_behind_a_voice(clips: list[FilmClip]) -> None:
    pytest.importorskip("speechmos", reason="pip install -e '.[scorers]'")
    pytest.importorskip("librosa", reason="pip install -e '.[scorers]'")
    face, scorer = clips[1], DnsmosScorer()
    noise = np.random.default_rng(0).normal(0, 0.05, len(face.samples)).astype(np.float32)
    noisy = FilmClip(face.path, face.frames, face.fps, face.samples + noise, SAMPLE_RATE)
    assert 1 <= scorer(noisy)["dnsmos_bak"] < scorer(face)["dnsmos_bak"] <= 5


def test_pocketsphinx_needs_a_transcript(clips: list[FilmClip]) -> None:
    pytest.importorskip("pocketsphinx", reason="pip install -e '.[scorers]'")
    scorer = PocketsphinxScorer()
    assert 0 <= scorer(clips[1])["wer_pocketsphinx"] <= 1.5
    with pytest.raises(NotMeasuredError, match="no transcript"):
        scorer(clips[0])


def test_units_and_error_rate() -> None:
    assert spoken_units("Don't stop, 3 times!") == ("don't", "stop", "3", "times")
    assert spoken_units("你好，ok") == ("你", "好", "ok")  # noqa: RUF001
    assert error_rate(("a", "c"), ("a", "b", "c", "d")) == 0.5
    assert error_rate((), ("a",)) == 1
    assert error_rate(("a", "b", "c"), ("a",)) == 2


def test_whisper_is_read_from_a_folder(clips: list[FilmClip], tmp_path: Path) -> None:
    """Random weights: what is heard means nothing, that it is heard does."""
    pytest.importorskip("transformers", reason="pip install -e '.[weights]'")
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

    special = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    vocab = {token: index for index, token in enumerate([*"abcdefgh", "Ġ", *special])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer.from_pretrained(tmp_path)
    size = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
    size |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": len(vocab)}
    end, start = vocab[special[0]], vocab[special[1]]
    config = WhisperConfig(
        **size,
        max_target_positions=16,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config.max_new_tokens = 8
    for part in (model, tokenizer, WhisperFeatureExtractor()):
        part.save_pretrained(tmp_path)
    assert WhisperScorer(tmp_path, "cpu")(clips[1])["wer_whisper"] >= 0


class OneFace:
    """In the place of the detector, whose random weights find no face: one face in the middle of every picture."""

    def detect_faces(self, image: np.ndarray, **_: object) -> np.ndarray:
        height, width = image.shape[:2]
        return np.array([[0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height, 1.0]])


def test_syncnet_runs_up_to_its_distances_with_random_weights(clips: list[FilmClip], tmp_path: Path) -> None:
    pytest.importorskip("syncnet_python", reason="pip install -e '.[scorers]'")
    if shutil.which("ffmpeg") is None:
        pytest.skip("syncnet-python runs ffmpeg, which is not on the PATH")
    from syncnet_python.detectors.s3fd.nets import S3FDNet
    from syncnet_python.SyncNetModel import S

    torch.save(S3FDNet(device="cpu").state_dict(), tmp_path / "sfd_face.pth")
    torch.save(S().state_dict(), tmp_path / "syncnet_v2.model")
    face = clips[1]
    path = tmp_path / "face.mp4"
    write_video(path, np.concatenate([face.frames] * 2), face.fps, np.tile(face.samples, 2)[None], SAMPLE_RATE, scale=4)
    clip = FilmClip(path, face.frames, face.fps, face.samples, SAMPLE_RATE)
    scorer = SyncNetScorer(tmp_path, "cpu")
    with pytest.raises(NotMeasuredError, match="no face"):
        scorer(clip)
    scorer.pipeline.s3fd = OneFace()
    found = scorer(clip)
    assert found["lse_c"] >= 0
    assert found["lse_d"] > 0
