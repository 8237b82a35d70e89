"""`harmony encode`."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from harmony_core.media import read_video


def test_encode_writes_latents_and_a_preview(
    harmony, random_checkpoint: Path, synced_mp4: Path, tmp_path: Path
) -> None:
    out, preview = tmp_path / "a.safetensors", tmp_path / "a.mp4"
    code, printed, err = harmony("encode", synced_mp4, "-o", out, "--preview", preview, "-m", random_checkpoint)
    assert code == 0, err
    assert "96x64 -> 64x64" in printed
    assert load_file(out)["video"].shape[2:] == (11, 8, 8)
    assert len(read_video(preview).frames) == 38
