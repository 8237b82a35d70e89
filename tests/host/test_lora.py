"""LoRA files, partial loading and compilation, in ComfyUI's own interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harmony_core.checkpoints import load_bundle
from harmony_core.checkpoints.lora import apply_lora
from harmony_core.training.adapters import LoraConfig, add_lora, save_lora

from .test_inside import run_script

pytestmark = pytest.mark.host


def write_trained(folder: Path) -> None:
    """A LoRA as `harmony train` saves it, and the weights that `--lora` makes of it."""
    transformer = load_bundle("harmony-tiny").transformer
    torch.manual_seed(0)
    add_lora(transformer, LoraConfig(rank=3, alpha=6, targets="all"))
    for name, parameter in transformer.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.05)
    save_lora(folder / "trained.safetensors", transformer, {})
    plain = load_bundle("harmony-tiny").transformer
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    apply_lora(plain, folder / "trained.safetensors")
    moved = {key: value for key, value in plain.state_dict().items() if not torch.equal(value, before[key])}
    save_file(moved, folder / "wanted.safetensors")


def test_each_strength_has_its_stream(comfy_tree: Path, tmp_path: Path) -> None:
    write_trained(tmp_path)
    run_script(comfy_tree, "lora_strengths", tmp_path, str(tmp_path))
