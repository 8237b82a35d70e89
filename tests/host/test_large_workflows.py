"""The workflows of Ovi, Wan2.2 and LTX-2: shipped graphs, real classes and files, toy size and random weights."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load

from tools.comfyui.server import ComfyServer
from tools.workflows.shipped import NEEDS_NEWEST, Prompt, change, node_of, nodes_of

from .checks import check_clip
from .latents import sample
from .toy_weights import NAMES_OF_LARGE, STEPS, toy_files, toy_workflow

pytestmark = pytest.mark.host

VIDEO_ONLY = "wan22_video_only"
# 0.48 s: 13 and 17 frames are made and cut again
CLIPS = {
    "ovi_text_to_audio_video": {"num_frames": 12, "fps": 24},
    "ovi_image_to_audio_video": {"num_frames": 12, "fps": 24},
    **{f"uniavgen_{task}": {"num_frames": 81, "fps": 16} for task in ("talking_person", "voice", "lip_sync")},
    "uniavgen_film_sound": {"num_frames": 63, "fps": 12.5, "size": (64, 64)},  # the film's own
    "ltx2_sync_cfg": {"num_frames": 12, "fps": 25},
    "ltx2_lip_sync": {"num_frames": 17, "fps": 25},
    "h3_lip_sync": {"num_frames": 22, "fps": 24},
}


@pytest.fixture(scope="module")
def toys(server: ComfyServer) -> Iterator[ComfyServer]:
    with toy_files(server):
        yield server


def test_each_is_run() -> None:
    assert sorted([*CLIPS, VIDEO_ONLY]) == NAMES_OF_LARGE


EVERY = [pytest.param(name, marks=[pytest.mark.newest_tree] * (name in NEEDS_NEWEST)) for name in CLIPS]


@pytest.mark.parametrize("name", EVERY)
def test_workflow_runs(toys: ComfyServer, name: str) -> None:
    prompt = toy_workflow(name)
    run = toys.run(prompt)
    assert run.error is None, run.error
    assert run.progress(node_of(prompt, "SamplerCustomAdvanced"))[-1:] == [(STEPS, STEPS)]
    check_clip(toys.saved_file(run, node_of(prompt, "SaveVideo")), **{"size": (64, 96)} | CLIPS[name])


def test_video_only(toys: ComfyServer) -> None:
    prompt = toy_workflow(VIDEO_ONLY)
    run = toys.run(prompt)
    assert run.error is None, run.error
    with av.open(BytesIO(toys.saved_file(run, node_of(prompt, "SaveVideo")))) as file:
        (stream,) = file.streams
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(stream)])
        assert abs(float(stream.average_rate) - 24) < 0.01
    assert frames.shape == (13, 64, 96, 3)
    assert frames.std() > 2, "the picture is empty"


def test_words_and_picture_reach_ovi(toys: ComfyServer) -> None:
    """Both streams follow the words; the first latent frame is the picture's."""
    name = "ovi_image_to_audio_video"
    prompt, other = other_clip(name), other_clip(name)
    (text,) = (key for key in nodes_of(other, "HarmonyTextEncode") if other[key]["inputs"]["prompt_format"] == "ovi")
    other[text]["inputs"]["transcript"] = "Nothing is here."
    picture = {"latent": [node_of(prompt, "HarmonyClip"), 0], "name": "picture"}
    prompt["picture"] = {"class_type": "HarmonyProbeLatent", "inputs": picture}
    clips = [sample(toys, each, f"words{index}", STEPS) for index, each in enumerate((prompt, other))]
    assert_differ(*clips)
    wanted = load(Path(toys.base / "output" / "picture.safetensors").read_bytes())["video"][:, :, 0]
    assert wanted.std() > 0.1
    for clip in clips:
        torch.testing.assert_close(clip["video"][:, :, 0], wanted, atol=1e-5, rtol=0)


def test_sync_guides_ltx2(toys: ComfyServer) -> None:
    prompt, plain = other_clip("ltx2_sync_cfg"), other_clip("ltx2_sync_cfg")
    change(plain, "HarmonySyncCFG", video_sync_scale=1.0, audio_sync_scale=1.0)
    assert_differ(sample(toys, prompt, "guided", STEPS), sample(toys, plain, "plain", STEPS))


def other_clip(name: str) -> Prompt:
    """With another seed, so that an earlier run's cache has no answer."""
    prompt = toy_workflow(name)
    change(prompt, "RandomNoise", noise_seed=2)
    return prompt


def assert_differ(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    for stream in ("video", "audio"):
        assert (ours[stream] - theirs[stream]).abs().max() > 1e-3
