"""HarmonySyncMap: the map of a clip made in ComfyUI is the one that the model's own code gives."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from harmony_core.diffusion.latents import AVLatents, draw_noise
from harmony_core.model.inputs import AudioInput, VideoInput
from harmony_core.pipelines import HarmonyPipeline
from harmony_core.sync.attention_map import SyncMap, draw_sync_map
from harmony_core.text.transcripts import tokenize_transcript
from tools.comfyui.server import ComfyServer, Run
from tools.workflows.shipped import Prompt, api_workflow, captions_of, change, node_of

pytestmark = pytest.mark.host

NOISE, SEED = 0.7, 5


def with_map(**inputs) -> Prompt:
    prompt = api_workflow("text_to_audio_video")
    change(prompt, "BasicScheduler", steps=2)
    del prompt[node_of(prompt, "SaveVideo")]
    guider = prompt[node_of(prompt, "HarmonySyncCFG")]["inputs"]
    links = {
        "model": guider["model"],
        "positive": guider["positive"],
        "latent": [node_of(prompt, "SamplerCustomAdvanced"), 0],
        "images": [node_of(prompt, "HarmonyDecode"), 0],
    }
    prompt["map"] = {"class_type": "HarmonySyncMap", "inputs": links | {"noise": NOISE, "seed": SEED} | inputs}
    prompt["save"] = {"class_type": "SaveImage", "inputs": {"images": ["map", 0], "filename_prefix": "map"}}
    prompt["frames"] = {"class_type": "SaveImage", "inputs": {"images": links["images"], "filename_prefix": "frame"}}
    prompt["probe"] = {"class_type": "HarmonyProbeLatent", "inputs": {"latent": links["latent"], "name": "mapped"}}
    return prompt


def pictures(server: ComfyServer, run: Run, node: str) -> np.ndarray:
    images = [Image.open(io.BytesIO(server.view(image))) for image in run.outputs[node]["images"]]
    return np.stack([np.asarray(image.convert("RGB")) for image in images])


def expected_map(server: ComfyServer, prompt: Prompt, frames: np.ndarray, direction: str, layers: tuple) -> np.ndarray:
    latents = AVLatents(**load((server.base / "output" / "mapped.safetensors").read_bytes()))
    text = prompt[captions_of(prompt)]["inputs"]
    pipeline = HarmonyPipeline.from_file()
    features, _ = pipeline.text_encoder.encode([text["video_caption"], text["audio_caption"]])
    transcript, _ = tokenize_transcript(text["transcript"], pipeline.config.speech)
    noise = draw_noise(latents.video.shape, latents.audio.shape, SEED)
    noisy = latents.map(lambda x, noise: x * (1 - NOISE) + noise * NOISE, noise)
    sigmas = [torch.full((1, x.shape[2]), NOISE) for x in noisy]
    with torch.no_grad(), SyncMap(pipeline.transformer, direction, layers) as seen:
        pipeline.transformer(
            VideoInput(noisy.video, sigmas[0], features[:1]),
            AudioInput(noisy.audio, sigmas[1], features[1:], transcript[None]),
        )
    return draw_sync_map(frames, seen.strength((noisy.video.shape[2], 4, 4)))


@pytest.mark.parametrize(
    ("direction", "written", "layers"), [("v2a", "", (2, 3)), ("a2v", "1, 4", (1, 4))], ids=["v2a", "a2v"]
)
def test_same_as_the_models_own(server: ComfyServer, direction: str, written: str, layers: tuple[int, ...]) -> None:
    prompt = with_map(direction=direction, layers=written)
    run = server.run(prompt)
    assert run.error is None, run.error
    frames, drawn = (pictures(server, run, node) for node in ("frames", "save"))
    assert drawn.shape == (25, 64, 64, 3)
    expected = expected_map(server, prompt, frames, direction, layers)
    assert np.abs(drawn.astype(int) - expected).max() <= 3
    assert drawn.std() > 3


def test_of_a_batch_the_first_clip(server: ComfyServer) -> None:
    prompt = with_map(direction="v2a")
    change(prompt, "HarmonyClip", batch_size=2)
    run = server.run(prompt)
    assert run.error is None, run.error
    assert len(run.outputs["frames"]["images"]) == 50
    assert pictures(server, run, "save").shape == (25, 64, 64, 3)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"layers": "two"}, "layers is 'two'; write layer numbers"),
        ({"layers": "2, 6"}, "There is no layer 6 to look at: this model has layers 0 to 5."),
    ],
)
def test_wrong_layers(server: ComfyServer, inputs: dict[str, str], message: str) -> None:
    assert message in server.run(with_map(direction="v2a", **inputs)).error["exception_message"]
