"""A toy UniAVGen, and clips in its form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from accelerate import PartialState

from harmony_core.checkpoints.parts import PartFiles
from harmony_core.media import write_video
from harmony_core.pipelines import HarmonyPipeline
from harmony_core.training.data.buckets import Buckets
from harmony_core.training.data.encode import encode_dataset
from tests.media.files import write_audio
from tests.uniavgen_toy import GREETING, RATE, film, sound, toy_files


@pytest.fixture(scope="package")
def files(parts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> PartFiles:
    return toy_files(parts, tmp_path_factory.mktemp("uniavgen"))


@pytest.fixture(scope="package")
def pipeline(files: PartFiles) -> HarmonyPipeline:
    return HarmonyPipeline.from_parts(files)


@pytest.fixture(scope="package")
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
