"""Which stream a weight belongs to, and the names that other programs have for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harmony_core.checkpoints import CheckpointError
from harmony_core.checkpoints.lora import apply_lora, other_names, writes_audio
from harmony_core.model import HarmonyTransformer
from tests.model.test_transformer import random_model, small_config

KEYS = json.loads((Path(__file__).parents[1] / "fixtures" / "keys_harmony_5b.json").read_text())


@pytest.mark.parametrize(
    ("key", "audio"),
    [
        ("blocks.0.self_attn.q.weight", False),
        ("head.modulation", False),
        ("interactions.3.a2v.o.bias", False),
        ("audio.blocks.0.self_attn.q.weight", True),
        ("speech.proj.weight", True),
        ("interactions.12.v2a.norm_k.weight", True),
        ("interactions.0.style.q.weight", True),
    ],
)
def test_streams(key: str, audio: bool) -> None:
    assert key in KEYS
    assert writes_audio(key) == audio


def test_names_elsewhere() -> None:
    names = other_names(KEYS)
    assert names["transformer.blocks.7.attn2.to_out.0"] == "blocks.7.cross_attn.o.weight"
    assert names["diffusion_model.video_model.blocks.0.cross_attn.v_fusion"] == "interactions.0.a2v.v.weight"
    assert names["audio_model.blocks.29.ffn.2"] == "audio.blocks.29.ffn.2.weight"
    assert set(names.values()) <= set(KEYS)


RANK = 2
LAYER = "blocks.0.self_attn.q"


def lora_of(model: HarmonyTransformer, form: tuple[str, str, str], layers: list[str]) -> dict[str, torch.Tensor]:
    """A LoRA of alpha 1 in some spelling."""
    start, down, up = form
    tensors = {}
    for layer in layers:
        rows, columns = model.get_parameter(f"{layer}.weight").shape
        name = start + (layer.replace(".", "_") if start == "lora_unet_" else layer)
        tensors |= {name + down: torch.randn(RANK, columns), name + up: torch.randn(rows, RANK)}
        tensors[name + ".alpha"] = torch.tensor(1.0)
    return tensors


@pytest.mark.parametrize(
    "form",
    [
        ("diffusion_model.", ".lora_A.weight", ".lora_B.weight"),
        ("transformer.", ".lora_A.weight", ".lora_B.weight"),
        ("", ".lora_down.weight", ".lora_up.weight"),
        ("lora_unet_", ".lora_down.weight", ".lora_up.weight"),
    ],
)
def test_every_spelling_reaches_the_same_weights(tmp_path: Path, form: tuple[str, str, str]) -> None:
    model = random_model(small_config())
    audio = f"audio.{LAYER}"
    before = {name: each.clone() for name, each in model.named_parameters()}
    tensors = lora_of(model, form, [LAYER, audio])
    save_file(tensors, tmp_path / "lora.safetensors")
    apply_lora(model, tmp_path / "lora.safetensors", video_strength=0.5, audio_strength=0)
    down, up = (next(tensors[key] for key in tensors if key.endswith(mark)) for mark in form[1:])
    assert torch.equal(model.get_parameter(f"{audio}.weight"), before[f"{audio}.weight"])
    wanted = before[f"{LAYER}.weight"] + 0.5 * (up @ down) / RANK
    torch.testing.assert_close(model.get_parameter(f"{LAYER}.weight"), wanted)
    others = [name for name, each in model.named_parameters() if not torch.equal(each, before[name])]
    assert others == [f"{LAYER}.weight"]


def test_what_does_not_fit_is_refused_and_named(tmp_path: Path) -> None:
    model, path = random_model(small_config()), tmp_path / "lora.safetensors"
    tensors = lora_of(model, ("diffusion_model.", ".lora_A.weight", ".lora_B.weight"), [LAYER])
    elsewhere = {key.replace("blocks.0", "blocks.70"): value for key, value in tensors.items()}
    down, up = f"diffusion_model.{LAYER}.lora_A.weight", f"diffusion_model.{LAYER}.lora_B.weight"
    for wrong, message in (
        (elsewhere, r"1 reach nothing: this model has no diffusion_model\.blocks\.70\.self_attn\.q"),
        (tensors | {up: torch.zeros(7, RANK)}, rf"{LAYER} is for a weight of \[7, \d+\], but the model's is"),
        ({key: value for key, value in tensors.items() if key != up}, f"has {down} without {up}"),
        (tensors | {"x.dora_scale": torch.ones(2)}, "x.dora_scale; only plain LoRA"),
        ({"x": torch.ones(2)}, "x; only plain LoRA"),
    ):
        save_file({key: value.contiguous() for key, value in wrong.items()}, path)
        with pytest.raises(CheckpointError, match=message):
            apply_lora(model, path)
