"""`harmony convert`."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.commands.errors import assert_error


def test_convert_writes_safetensors_and_names_what_it_cannot_read(harmony, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    code, printed, err = harmony("convert", tmp_path / "a.pth", "-o", tmp_path / "a.safetensors")
    assert code == 0, err
    assert "1 tensors" in printed
    assert load_file(tmp_path / "a.safetensors")["a"].tolist() == [1, 1]
    result = harmony("convert", tmp_path / "a.pth", "-o", tmp_path / "b.safetensors", "--kind", "magic")
    assert_error(result, "'magic'", "mmaudio")
