"""`harmony info`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.commands.errors import assert_error


def test_info_describes_a_checkpoint(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    code, printed, err = harmony("info", random_checkpoint, "--json")
    assert code == 0, err
    facts = json.loads(printed)
    assert set(facts["parts"]) == {"transformer", "vae", "audio_vae", "text_encoder"}
    assert facts["model_card"] == {"name": "random"}
    code, printed, _ = harmony("info", random_checkpoint)
    assert "random.safetensors" in printed
    assert "parameters" in printed
    (tmp_path / "wrong.safetensors").write_bytes(b"not a checkpoint")
    assert_error(harmony("info", tmp_path / "wrong.safetensors"), "wrong.safetensors")
    assert_error(harmony("info", tmp_path), str(tmp_path))


def test_info_counts_values_that_are_no_numbers(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    assert json.loads(harmony("info", random_checkpoint, "--json")[1])["values"] == {"nan": 0, "inf": 0, "first": None}
    fp8 = torch.zeros(3, 5).to(torch.float8_e4m3fn).view(torch.uint8)
    fp8[1, 2] = 0x7F  # its only NaN
    lora = {
        "blocks.0.self_attn.q.lora_A.weight": torch.tensor([[1.0, float("nan"), -float("inf")]] * 2),
        "blocks.0.self_attn.q.lora_B.weight": torch.ones(2, 2, dtype=torch.bfloat16),
        "blocks.1.self_attn.q.lora_A.weight": fp8.view(torch.float8_e4m3fn),
        "blocks.1.self_attn.q.lora_B.weight": torch.full((2, 2), float("inf"), dtype=torch.float16),
    }
    path = tmp_path / "lora.safetensors"
    save_file(lora, path)
    expected = {"nan": 3, "inf": 6, "first": "blocks.0.self_attn.q.lora_A.weight"}
    assert json.loads(harmony("info", path, "--json")[1])["values"] == expected
    assert "3 NaN and 6 infinite, the first in blocks.0.self_attn.q.lora_A.weight" in harmony("info", path)[1]
    assert "values" not in harmony("info", path, "--no-values")[1]
    tensors = load_file(random_checkpoint)
    key = next(key for key in tensors if key.startswith("vae.") and tensors[key].is_floating_point())
    tensors[key].view(-1)[-1] = float("nan")
    save_file(tensors, tmp_path / "damaged.safetensors")
    assert json.loads(harmony("info", tmp_path / "damaged.safetensors", "--json")[1])["values"]["first"] == key
