"""Hostile weight files in the folders of ComfyUI: each loader answers in a sentence without places, then works on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.robustness import weight_cases
from tools.comfyui.server import ComfyServer
from tools.workflows.shipped import api_workflow, change, node_of

pytestmark = [pytest.mark.host, pytest.mark.newest_tree]
CASES = 6  # of each kind


def loader_prompt(kind: str, name: str) -> dict:
    """The simplest workflow with a loader that reads the file."""
    prompt = api_workflow("simplest")
    change(prompt, "HarmonySampler", steps=1)
    checkpoint, sampler = node_of(prompt, "HarmonyCheckpointLoader"), node_of(prompt, "HarmonySampler")
    if kind == "bundle":
        prompt[checkpoint]["inputs"]["checkpoint"] = name
    elif kind == "weights":
        prompt["loader"] = {
            "class_type": "HarmonyModelLoader",
            "inputs": {"model_name": name, "audio_name": "none", "weight_dtype": "default"},
        }
        prompt[sampler]["inputs"]["model"] = ["loader", 0]
    else:
        strengths = {"video_strength": 1.0, "audio_strength": 1.0}
        inputs = {"model": prompt[sampler]["inputs"]["model"], "lora_name": name, **strengths}
        prompt["loader"] = {"class_type": "HarmonyLora", "inputs": inputs}
        prompt[sampler]["inputs"]["model"] = ["loader", 0]
    return prompt


@pytest.mark.parametrize(
    ("kind", "folder"), [("bundle", "checkpoints"), ("weights", "diffusion_models"), ("lora", "loras")]
)
def test_loaders_answer_in_a_sentence_without_places(
    server: ComfyServer, tmp_path: Path, kind: str, folder: str
) -> None:
    place = server.base / "models" / folder
    place.mkdir(parents=True, exist_ok=True)
    written, said = [], []
    for number in range(CASES):
        (tmp_path / str(number)).mkdir()
        weight_cases.CASES[kind](random.Random(f"host-{number}"), tmp_path / str(number))
        (made,) = (tmp_path / str(number)).iterdir()
        path = place / f"hostile-{kind}-{number}.safetensors"
        path.write_bytes(made.read_bytes())
        written.append(path)
    try:
        for path in written:
            run = server.run(loader_prompt(kind, path.name))
            if run.error is not None:
                said.append(run.error["exception_message"])
    finally:
        for path in written:
            path.unlink()
    assert said, "nothing was refused"
    for message in said:
        assert str(server.base) not in message
        assert "weights_only" not in message
        assert 10 < len(message) < 4000, message
    assert server.run(loader_prompt("bundle", "harmony-tiny (built in)")).error is None
