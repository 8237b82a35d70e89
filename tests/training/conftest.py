"""Clips of one's own that several files train on, and a finished run of the procedural world."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from accelerate import PartialState

from harmony_core.media import write_video
from harmony_core.pipelines import HarmonyPipeline
from harmony_core.toyworld import FPS, SAMPLE_RATE, render, sample_scene
from harmony_core.training.data.buckets import Buckets
from harmony_core.training.data.encode import encode_dataset
from harmony_core.training.trainer import run

from .small_runs import write


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five films, the first of them mute."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for number in range(5):
        clip = render(sample_scene(np.random.default_rng(number), "ball"))
        sound = np.atleast_2d(clip.audio).astype(np.float32) if number else None
        write_video(folder / f"{number}.mp4", clip.video, Fraction(FPS), sound, SAMPLE_RATE)
        rows.append({"video": f"{number}.mp4", "prompt": clip.scene.video_caption})
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pipeline = HarmonyPipeline.from_file()
    encode_dataset(folder / "clips.jsonl", folder / "shards", pipeline, Buckets.of(pipeline.config), PartialState())
    return folder / "shards"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    run(write(folder / "small.yaml"), folder / "run", resume=False)
    return folder
