"""`harmony info`."""

from __future__ import annotations

import json
from pathlib import Path

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
