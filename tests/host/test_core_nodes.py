"""Core's own nodes with Harmony's MODEL and VAE: loaders, shift, LoRA, fp8, saving, VAE nodes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harmony_core.checkpoints import describe, embedded_checkpoints
from tools.comfyui.server import ComfyServer
from tools.workflows.shipped import Prompt, api_workflow, change, node_of

from .latents import sample

pytestmark = pytest.mark.host

FILE = "harmony-test.safetensors"
CONFIG = describe("harmony-tiny")["config"]
Latents = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def checkpoint(server: ComfyServer) -> Path:
    """The built-in checkpoint as a file that a person put into models/diffusion_models."""
    folder = server.base / "models" / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.copyfile(embedded_checkpoints()["harmony-tiny"], folder / FILE)


@pytest.fixture(scope="module")
def expected(server: ComfyServer) -> Latents:
    return sample(server, workflow(), "expected", steps=4)


def workflow() -> Prompt:
    prompt = api_workflow("text_to_audio_video")
    change(prompt, "RandomNoise", noise_seed=21)
    return prompt


def with_model(prompt: Prompt, class_type: str, **inputs: object) -> Prompt:
    """Put a node between whatever gives the model and whoever takes it."""
    loader = node_of(prompt, "HarmonyCheckpointLoader")
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if value == [loader, 0]:
                node["inputs"][name] = [class_type, 0]
    if class_type != "UNETLoader":
        inputs["model"] = [loader, 0]
    prompt[class_type] = {"class_type": class_type, "inputs": inputs}
    return prompt


def assert_same(actual: Latents, expected: Latents, atol: float = 0) -> None:
    for name in ("video", "audio"):
        torch.testing.assert_close(actual[name], expected[name], atol=atol, rtol=0)


def test_core_loader(server: ComfyServer, checkpoint: Path, expected: Latents) -> None:
    prompt = with_model(workflow(), "UNETLoader", unet_name=checkpoint.name, weight_dtype="default")
    assert_same(sample(server, prompt, "unet_loader", steps=4), expected)


def test_fp8_weights(server: ComfyServer, checkpoint: Path, expected: Latents) -> None:
    prompt = with_model(workflow(), "UNETLoader", unet_name=checkpoint.name, weight_dtype="fp8_e4m3fn")
    out = sample(server, prompt, "fp8", steps=4)
    assert out["video"].isfinite().all()
    assert not torch.equal(out["video"], expected["video"])


def test_shift(server: ComfyServer, expected: Latents) -> None:
    same = sample(server, with_model(workflow(), "ModelSamplingSD3", shift=CONFIG["shift"]), "shift_same", steps=4)
    assert_same(same, expected)
    other = sample(
        server, with_model(workflow(), "ModelSamplingSD3", shift=CONFIG["shift"] + 5), "shift_other", steps=4
    )
    assert not torch.allclose(other["video"], expected["video"], atol=1e-2)


@pytest.mark.newest_tree  # compiling takes minutes
def test_compiled(server: ComfyServer, expected: Latents) -> None:
    """Core's TorchCompileModel: inductor's code makes the same clip."""
    prompt = with_model(workflow(), "TorchCompileModel", backend="inductor")
    assert_same(sample(server, prompt, "compiled", steps=4), expected, atol=1e-3)
    assert "torch._dynamo hit config" not in server.log


def test_lora(server: ComfyServer, expected: Latents) -> None:
    """A LoRA with Wan's key names reaches the video branch, one with ours the audio branch."""
    loras = server.base / "models" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    width = CONFIG["dim"]
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for branch in ("", "audio."):
        key = f"diffusion_model.{branch}blocks.1.self_attn.q"
        tensors[f"{key}.lora_A.weight"] = torch.randn(4, width, generator=generator)
        tensors[f"{key}.lora_B.weight"] = torch.randn(width, 4, generator=generator)
    save_file(tensors, loras / FILE)
    out = sample(
        server, with_model(workflow(), "LoraLoaderModelOnly", lora_name=FILE, strength_model=1.0), "lora", steps=4
    )
    assert "NOT LOADED" not in server.log
    for name in ("video", "audio"):
        assert not torch.allclose(out[name], expected[name], atol=1e-2)


def test_saved_model_loads_again(server: ComfyServer, expected: Latents) -> None:
    prompt = {
        "load": {"class_type": "HarmonyCheckpointLoader", "inputs": {"checkpoint": "harmony-tiny (built in)"}},
        "save": {"class_type": "ModelSave", "inputs": {"model": ["load", 0], "filename_prefix": "saved"}},
    }
    run = server.run(prompt)
    assert run.error is None, run.error
    (saved,) = (server.base / "output").glob("saved_*.safetensors")
    models = server.base / "models" / "diffusion_models"
    models.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(saved, models / "saved.safetensors")
    prompt = with_model(workflow(), "UNETLoader", unet_name="saved.safetensors", weight_dtype="default")
    assert_same(sample(server, prompt, "saved_again", steps=4), expected)


def test_core_vae_nodes(server: ComfyServer) -> None:
    prompt = {
        "load": {"class_type": "HarmonyCheckpointLoader", "inputs": {"checkpoint": "harmony-tiny (built in)"}},
        "image": {"class_type": "LoadImage", "inputs": {"image": "harmony_example.png"}},
        "sound": {"class_type": "LoadAudio", "inputs": {"audio": "harmony_example.wav"}},
        "v": {"class_type": "VAEEncode", "inputs": {"pixels": ["image", 0], "vae": ["load", 2]}},
        "a": {"class_type": "VAEEncodeAudio", "inputs": {"audio": ["sound", 0], "vae": ["load", 3]}},
        "picture": {"class_type": "VAEDecode", "inputs": {"samples": ["v", 0], "vae": ["load", 2]}},
        "tiled": {
            "class_type": "VAEDecodeTiled",
            "inputs": {
                "samples": ["v", 0],
                "vae": ["load", 2],
                "tile_size": 64,
                "overlap": 16,
                "temporal_size": 64,
                "temporal_overlap": 8,
            },
        },
        "heard": {"class_type": "VAEDecodeAudio", "inputs": {"samples": ["a", 0], "vae": ["load", 3]}},
        "save1": {"class_type": "SaveImage", "inputs": {"images": ["picture", 0], "filename_prefix": "vae"}},
        "save2": {"class_type": "SaveImage", "inputs": {"images": ["tiled", 0], "filename_prefix": "vae_tiled"}},
        "save3": {"class_type": "SaveAudio", "inputs": {"audio": ["heard", 0], "filename_prefix": "vae"}},
    }
    run = server.run(prompt)
    assert run.error is None, run.error
    assert {"save1", "save2", "save3"} <= set(run.outputs)


def test_core_checkpoint_loader_names_ours(server: ComfyServer) -> None:
    folder = server.base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(embedded_checkpoints()["harmony-tiny"], folder / FILE)
    prompt = {
        "load": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": FILE}},
        "save": {"class_type": "ModelSave", "inputs": {"model": ["load", 0], "filename_prefix": "from_checkpoint"}},
    }
    run = server.run(prompt)
    assert run.error is None, run.error
    assert "use HarmonyCheckpointLoader" in server.log
