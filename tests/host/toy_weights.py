"""Workflows whose weights are too large to have: their files at toy size, and probes where core loads one size only."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from harmony_core.checkpoints.layout import map_keys
from harmony_core.checkpoints.ovi import OVI as OVI_LAYOUT
from harmony_core.checkpoints.uniavgen import UNIAVGEN as UNIAVGEN_LAYOUT
from harmony_core.config import HarmonyConfig, SpeechConfig
from harmony_core.model import HarmonyTransformer
from harmony_core.presets import preset
from tests.checkpoints.uniavgen_cases import FIXTURES
from tools.comfyui.server import ComfyServer
from tools.workflows.large import (
    H3,
    H3_AUDIO_VAE,
    H3_VAE,
    LTX,
    MMAUDIO_FILE,
    OVI,
    OVI_MODEL,
    QWEN,
    UMT5,
    WAN,
    WAN_MODEL,
    WAN_VAE,
)
from tools.workflows.shipped import NAMES, RUNNABLE, Prompt, api_workflow, change, nodes_of
from tools.workflows.uniavgen import MODEL_FILE as UNIAVGEN_MODEL
from tools.workflows.uniavgen import VOCODER_FILE as UNIAVGEN_VOCODER

NAMES_OF_LARGE = [name for name in NAMES if name not in RUNNABLE]
SIZES = {"dim": 128, "ffn_dim": 160, "num_heads": 1, "num_layers": 2}
UNIAVGEN_TOY = preset("uniavgen").with_(
    dim=256,
    ffn_dim=160,
    num_heads=2,
    audio_dim=128,
    audio_ffn_dim=160,
    audio_num_heads=1,
    num_layers=12,  # 11 is left out in its guidance
    interaction_layers=tuple(range(0, 12, 2)),
    freq_dim=32,
    text_dim=64,  # as the built-in text encoder's
    speech=SpeechConfig(vocab="f5-characters", reading="cross", min_len=10, max_len=4096, dim=32, num_blocks=1),
)
PROBES = {  # of the files that core loads at one size only
    WAN_VAE.name: "wan22_vae",
    MMAUDIO_FILE: "mmaudio_vae",
    UMT5.name: "umt5",
    QWEN.name: "h3_text",
    H3_VAE.name: "h3_vae",
    H3_AUDIO_VAE.name: "h3_audio_vae",
}
STEPS = 2


@contextmanager
def toy_files(server: ComfyServer) -> Iterator[None]:
    """The transformers' files and LTX-2's checkpoint, under the names in the workflows, for a while. H3's where this
    version knows it."""
    folders = [server.base / "models" / name for name in ("diffusion_models", "checkpoints", "vae")]
    models, checkpoints, vaes = folders
    for folder in folders:
        folder.mkdir(exist_ok=True)
    weights = _random_weights(OVI.with_(**SIZES, audio_ffn_conv_dim=64))
    names, _ = map_keys(tuple((ours, theirs) for theirs, ours in OVI_LAYOUT), weights)
    save_file({theirs: weights[ours] for theirs, ours in names.items()}, models / OVI_MODEL.name)
    save_file(_random_weights(WAN.with_(**SIZES)), models / WAN_MODEL.name)
    save_uniavgen(UNIAVGEN_TOY.with_(text_dim=WAN.text_dim), [models / UNIAVGEN_MODEL])
    shutil.copy(FIXTURES / "vocoder_weights.safetensors", vaes / UNIAVGEN_VOCODER)
    files = [models / OVI_MODEL.name, models / WAN_MODEL.name, checkpoints / LTX.name]
    files += [models / UNIAVGEN_MODEL, vaes / UNIAVGEN_VOCODER]
    _write(server, "ltx2", LTX.name)
    if "EmptyMiniMaxH3LatentAV" in server.get("/object_info"):
        _write(server, "h3", H3.name)
        files.append(models / H3.name)
    yield
    for path in files:
        path.unlink()


def _write(server: ComfyServer, model: str, name: str) -> None:
    run = server.run({"write": {"class_type": "HarmonyProbeWrite", "inputs": {"model": model, "name": name}}})
    assert run.error is None, run.error


def save_uniavgen(config: HarmonyConfig, paths: list[Path]) -> None:
    """A toy under published names, in one file or in shards."""
    weights = _random_weights(config)
    names, strange = map_keys(tuple((ours, theirs) for theirs, ours in UNIAVGEN_LAYOUT), weights)
    assert not strange, strange
    for part, path in enumerate(paths):
        shard = sorted(names)[part :: len(paths)]
        save_file({theirs: weights[names[theirs]] for theirs in shard}, path)


def _random_weights(config: HarmonyConfig) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {key: value.shape for key, value in HarmonyTransformer(config, device="meta").state_dict().items()}
    return {key: torch.randn(shape, generator=generator) * 0.05 for key, shape in shapes.items()}


def toy_workflow(name: str) -> Prompt:
    """A shipped workflow, short and small, with probes for the loaders of text encoders and of these autoencoders."""
    prompt = api_workflow(name)
    probes = dict.fromkeys(nodes_of(prompt, "LTXAVTextEncoderLoader"), "gemma")
    probes |= {key: PROBES[prompt[key]["inputs"]["clip_name"]] for key in nodes_of(prompt, "CLIPLoader")}
    probes |= {key: PROBES[prompt[key]["inputs"]["vae_name"]] for key in nodes_of(prompt, "VAELoader")}
    for key, model in probes.items():
        prompt[key] = {"class_type": "HarmonyProbeLoader", "inputs": {"model": model}}
    length = {} if name.startswith("uniavgen") else {"seconds": 0.48}  # it makes one length alone
    change(prompt, "HarmonyClip", width=96, height=64, **length)
    change(prompt, "Wan22ImageToVideoLatent", length=13, width=96, height=64)
    change(prompt, "EmptyLTXVLatentVideo", length=17, width=96, height=64)
    change(prompt, "LTXVEmptyLatentAudio", frames_number=17)
    change(prompt, "MiniMaxH3ImageToVideo", length=22, width=96, height=64)
    for scheduler in ("BasicScheduler", "HarmonyScheduler", "LTXVScheduler", "KSampler"):
        change(prompt, scheduler, steps=STEPS)
    return prompt
