"""UniAVGen at toy size on a real ComfyUI: its four tasks are those of the command line, pass by pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from harmony_core.checkpoints import load_bundle
from harmony_core.checkpoints.bundle import Bundle, save_transformer
from harmony_core.checkpoints.files import load_transformer
from harmony_core.checkpoints.parts import load_audio_vae, load_video_vae
from harmony_core.media import VideoClip, read_audio, read_picture
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from tests.checkpoints.uniavgen_cases import FIXTURES
from tools.comfyui.server import ComfyServer, Run
from tools.workflows.shipped import BUILT_IN, MEDIA, Prompt

from .toy_weights import UNIAVGEN_TOY, save_uniavgen

pytestmark = pytest.mark.host

STEPS, SEED, SIDE = 2, 5, 64
FRAMES, CUT = 81, 40  # of a film, and where it becomes its negative
SHARDS, ONE_FILE = "uniavgen_toy-0000{}-of-00002.safetensors", "uniavgen_toy.safetensors"
TRAINED = "uniavgen_trained.safetensors"
VOCODER, VIDEO_VAE = "uniavgen_toy_vocoder.safetensors", "uniavgen_toy_wan.safetensors"
WORDS = {"prompt": "a woman speaks", "transcript": "Hi there"}
OFF = {f"{stream}_{kind}_scale": 1.0 for stream in ("video", "audio") for kind in ("sync", "text", "negative")}
OWN = {"video_negative_scale": 3.0, "audio_negative_scale": 2.0}
SYNC = {"video_sync_scale": 3.0, "audio_sync_scale": 2.0}
WHOLE = {"audio_name": "none", "weight_dtype": "default"}
PICTURE, SOUND = (MEDIA / f"harmony_example.{suffix}" for suffix in ("png", "wav"))


@dataclass(frozen=True)
class Toy:
    """A server that has the toy's files, and the command line's pipeline of the same files."""

    server: ComfyServer
    pipeline: HarmonyPipeline

    def sample(self, prompt: Prompt, name: str) -> dict[str, torch.Tensor]:
        """Latents of a prompt, its video in the model's own scale as the pipeline's."""
        run = self.run(prompt, name)
        assert run.error is None, run.error
        found = load((self.server.base / "output" / f"{name}.safetensors").read_bytes())
        vae: Any = self.pipeline.video_vae
        return {**found, "video": (found["video"] - vae.latents_mean) / vae.latents_std}

    def run(self, prompt: Prompt, name: str = "never") -> Run:
        prompt["probe"] = {"class_type": "HarmonyProbeLatent", "inputs": {"latent": ["sample", 0], "name": name}}
        return self.server.run(prompt)

    def passes(self, name: str) -> list[list[list[float]]]:
        """(video, audio) noise levels of the rows of every pass."""
        return json.loads((self.server.base / "output" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def toy(server: ComfyServer) -> Iterator[Toy]:
    models = server.base / "models"
    for folder in ("diffusion_models", "vae"):
        (models / folder).mkdir(exist_ok=True)
    shards = [models / "diffusion_models" / SHARDS.format(number) for number in (1, 2)]
    save_uniavgen(UNIAVGEN_TOY, shards)
    save_uniavgen(UNIAVGEN_TOY, [models / "diffusion_models" / ONE_FILE])
    shutil.copy(FIXTURES / "vocoder_weights.safetensors", models / "vae" / VOCODER)
    inputs = {"model": "wan22_vae", "name": VIDEO_VAE}
    written = server.run({"write": {"class_type": "HarmonyProbeWrite", "inputs": inputs}})
    assert written.error is None, written.error
    config, transformer = load_transformer(shards)
    bundle = Bundle(
        config=config,
        transformer=transformer,
        video_vae=load_video_vae(models / "vae" / VIDEO_VAE),
        audio_vae=load_audio_vae(models / "vae" / VOCODER),
        text_encoder=load_bundle("harmony-tiny").text_encoder,
    )
    yield Toy(server, HarmonyPipeline(bundle))
    written_files = [models / "diffusion_models" / ONE_FILE, models / "vae" / VOCODER, models / "vae" / VIDEO_VAE]
    for path in (*shards, *written_files):
        path.unlink()


def graph(task: str, scales: dict[str, float], watched: str = "") -> Prompt:
    """A task as nodes."""
    coders = {"vae": ["vae", 0], "audio_vae": ["audio_vae", 0]}
    clip = {"seconds": 0.0, "fps": 0.0, "width": SIDE, "height": SIDE, "model": ["load", 0]} | coders
    text = {"clip": ["built_in", 1], "audio_caption": "", "video_caption": WORDS["prompt"]}
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "load": ("HarmonyModelLoader", {"model_name": SHARDS.format(2)} | WHOLE),
        "built_in": ("HarmonyCheckpointLoader", {"checkpoint": BUILT_IN}),
        "vae": ("HarmonyProbeLoader", {"model": "wan22_vae"}),
        "audio_vae": ("HarmonyAudioVAELoader", {"vae_name": VOCODER}),
        "text": ("HarmonyTextEncode", text | {"transcript": WORDS["transcript"], "language": "en"}),
        "clip": ("HarmonyClip", clip),
        "noise": ("RandomNoise", {"noise_seed": SEED}),
        "euler": ("KSamplerSelect", {"sampler_name": "euler"}),
        "sigmas": ("HarmonyScheduler", {"model": ["load", 0], "steps": STEPS}),
    }
    positive, latent = ["text", 0], ["clip", 0]
    if task != "video_to_audio":
        nodes["image"] = "LoadImage", {"image": PICTURE.name}
        clip["first_frame"] = ["image", 0]
    if task == "video_to_audio":
        nodes["image"] = "LoadImage", {"image": PICTURE.name}
        nodes["first"] = "RepeatImageBatch", {"image": ["image", 0], "amount": CUT}
        nodes["negative"] = "ImageInvert", {"image": ["image", 0]}
        nodes["second"] = "RepeatImageBatch", {"image": ["negative", 0], "amount": FRAMES - CUT}
        nodes["both"] = "ImageBatch", {"image1": ["first", 0], "image2": ["second", 0]}
        nodes["film"] = "CreateVideo", {"images": ["both", 0], "fps": 16.0}
        nodes["given"] = "HarmonyGivenVideo", {"latent": latent, "vae": ["vae", 0], "video": ["film", 0]}
        latent = ["given", 0]
    if task in ("voice", "audio_to_video"):
        nodes["sound"] = "LoadAudio", {"audio": SOUND.name}
    if task == "audio_to_video":
        given = {"latent": latent, "audio_vae": ["audio_vae", 0], "audio": ["sound", 0]}
        nodes["given"], latent = ("HarmonyGivenAudio", given), ["given", 0]
    if task == "voice":
        voice = {"conditioning": positive, "audio_vae": ["audio_vae", 0], "audio": ["sound", 0], "seconds": 0.0}
        nodes["voice"], positive = ("HarmonyReferenceAudio", voice | {"transcript": "Yes."}), ["voice", 0]
    model = ["load", 0]
    if watched:
        nodes["watched"], model = ("HarmonyProbePasses", {"model": model, "name": watched}), ["watched", 0]
    nodes["guider"] = "HarmonySyncCFG", {"model": model, "positive": positive, "anchors": ["clip", 1]} | scales
    run = {"noise": ["noise", 0], "guider": ["guider", 0], "sampler": ["euler", 0], "sigmas": ["sigmas", 0]}
    nodes["sample"] = "SamplerCustomAdvanced", run | {"latent_image": latent}
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def request(task: str, scales: dict[str, float]) -> GenerateRequest:
    """The same for the pipeline."""
    picture, _ = read_picture(PICTURE)
    media: dict[str, Any] = {"image": picture}
    if task == "video_to_audio":
        frames = np.stack([picture] * CUT + [255 - picture] * (FRAMES - CUT))
        media = {"video": VideoClip(frames, Fraction(16))}
    if task == "audio_to_video":
        media["audio"] = read_audio(SOUND)
    if task == "voice":
        media |= {"reference_audio": read_audio(SOUND), "reference_transcript": "Yes."}
    size = {"width": SIDE, "height": SIDE}
    return GenerateRequest(**WORDS, **media, **size, **scales, seed=SEED, steps=STEPS)


TASKS = ("joint", "voice", "audio_to_video", "video_to_audio")


@pytest.mark.parametrize(("task", "scales"), [*((task, OFF | OWN) for task in TASKS), ("voice", OFF | SYNC)])
def test_clips_are_the_command_lines(toy: Toy, task: str, scales: dict[str, float]) -> None:
    ours = toy.sample(graph(task, scales), f"uniavgen_{task}")
    theirs = toy.pipeline(request(task, scales))
    assert theirs.latents_audio is not None
    assert ours["video"].shape == (1, 48, 21, SIDE // 16, SIDE // 16)
    assert ours["audio"].shape == (1, 80, 506)
    for found, expected in ((ours["video"], theirs.latents_video), (ours["audio"], theirs.latents_audio)):
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_what_a_run_saves_makes_the_same_clip(toy: Toy) -> None:
    """A checkpoint of `harmony train` is in Harmony's layout, with its settings, in bfloat16."""
    path = toy.server.base / "models" / "diffusion_models" / TRAINED
    save_transformer(path, toy.pipeline.config, toy.pipeline.transformer, torch.bfloat16, {})
    prompt = graph("voice", OFF)
    prompt["load"]["inputs"]["model_name"] = TRAINED
    ours, theirs = toy.sample(prompt, "uniavgen_trained"), toy.pipeline(request("voice", OFF))
    path.unlink()
    assert theirs.latents_audio is not None
    for found, expected in ((ours["video"], theirs.latents_video), (ours["audio"], theirs.latents_audio)):
        assert (found - expected).norm() < 0.03 * expected.norm()


def test_sync_passes_see_their_own_times(toy: Toy) -> None:
    toy.sample(graph("joint", OFF | SYNC, watched="sync_passes"), "sync_passes")
    rows = [tuple(row) for each in toy.passes("sync_passes") for row in each]
    assert len(rows) == 3 * STEPS
    t = max(rows[0])
    assert t > 0
    assert sorted(rows[:3]) == [(0.0, t), (t, 0.0), (t, t)]


def test_scales_of_one_are_no_guidance(toy: Toy) -> None:
    """To the bit, and without a pass more."""
    plain = graph("joint", OFF)
    plain["guider"] = {"class_type": "BasicGuider", "inputs": {"model": ["load", 0], "conditioning": ["text", 0]}}
    expected = toy.sample(plain, "uniavgen_plain")
    found = toy.sample(graph("joint", OFF, watched="one_pass"), "uniavgen_off")
    assert [len(rows) for rows in toy.passes("one_pass")] == [1] * STEPS
    assert all(found[stream].equal(expected[stream]) for stream in expected)


def test_other_nodes_make_the_same_clip(toy: Toy) -> None:
    """Harmony Sampler with the published schedule, Harmony First Frame in the place of Harmony Clip's input, and core's
    loader, which must not take the file for Wan's."""
    expected = toy.sample(graph("joint", OFF | OWN), "uniavgen_nodes")
    prompt = graph("joint", OFF | OWN)
    guider = prompt.pop("guider")["inputs"]
    for name in ("noise", "euler", "sigmas"):
        del prompt[name]
    inputs = guider | {"latent": ["clip", 0], "seed": SEED, "steps": STEPS, "shift": 0.0}
    prompt["sample"] = {"class_type": "HarmonySampler", "inputs": inputs}
    in_one = toy.sample(prompt, "uniavgen_in_one")
    prompt = graph("joint", OFF | OWN)
    del prompt["clip"]["inputs"]["first_frame"]
    first = {"latent": ["clip", 0], "vae": ["vae", 0], "image": ["image", 0]}
    prompt["first"] = {"class_type": "HarmonyFirstFrame", "inputs": first}
    prompt["sample"]["inputs"]["latent_image"] = ["first", 0]
    put_in = toy.sample(prompt, "uniavgen_first_frame")
    prompt = graph("joint", OFF | OWN)
    prompt["load"] = {"class_type": "UNETLoader", "inputs": {"unet_name": ONE_FILE, "weight_dtype": "default"}}
    by_core = toy.sample(prompt, "uniavgen_core_loader")
    for found in (in_one, put_in, by_core):
        assert all(found[stream].equal(expected[stream]) for stream in expected)


def test_several_clips_in_small_weights(toy: Toy) -> None:
    """A batch, with 8-bit weights: each row is made, from its own noise."""
    prompt = graph("joint", OFF | SYNC)
    prompt["load"]["inputs"]["weight_dtype"] = "fp8_e4m3fn"
    prompt["clip"]["inputs"]["batch_size"] = 2
    found = toy.sample(prompt, "uniavgen_batch")
    for stream in found.values():
        assert len(stream) == 2
        assert stream.isfinite().all()
        assert (stream[0] - stream[1]).abs().max() > 0.1


def test_refusals_say_what_to_do(toy: Toy) -> None:
    def message(prompt: Prompt) -> str:
        return toy.run(prompt).error["exception_message"]

    prompt = graph("joint", OFF)
    del prompt["clip"]["inputs"]["first_frame"], prompt["image"]
    assert "add Harmony First Frame" in message(prompt)
    prompt = graph("joint", OFF)
    prompt["clip"]["inputs"]["seconds"] = 3.0
    assert "seconds is 3, but this checkpoint was trained on clips of 5.0625 alone; set it to 0." in message(prompt)
    prompt = graph("audio_to_video", OFF)
    prompt["given"]["inputs"]["end_seconds"] = 2.0
    assert "A part of the sound is given" in message(prompt)
    prompt = graph("voice", OFF)
    prompt["voice"]["inputs"]["transcript"] = ""
    assert "follows a voice by its words" in message(prompt)
    prompt = graph("joint", OFF)
    prompt["audio_vae"]["inputs"]["vae_name"] = VIDEO_VAE
    assert "is not UniAVGen's vocoder" in message(prompt)
    prompt = graph("joint", OFF | OWN)
    prompt["guider"]["inputs"]["model"] = ["built_in", 0]
    assert "are UniAVGen's guidance, which this model lacks" in message(prompt)
