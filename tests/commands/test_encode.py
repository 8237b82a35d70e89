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


def test_what_cannot_be_honoured_is_refused(harmony, synced_mp4: Path, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"video": "a.mp4", "prompt": "a ball"}')
    for arguments, said in (
        ((synced_mp4, "-o", tmp_path / "a.safetensors", "--size", "64x64"), "are buckets of a data set"),
        ((tmp_path / "m.jsonl", "-o", tmp_path / "set", "--overwrite"), "are of one file"),
        ((tmp_path / "m.jsonl", "-o", synced_mp4), "is a file, but a data set needs a folder"),
        ((tmp_path, "-o", tmp_path / "set"), "whose files are clips; give another folder"),
        ((tmp_path / "m.jsonl", "-o", tmp_path / "set", "--size", "64"), "must be WIDTHxHEIGHT"),
        ((tmp_path / "m.jsonl", "-o", tmp_path / "set", "--fps", "0"), "fps is 0, but must be above 0"),
        ((synced_mp4,), "Missing option '--output'"),
    ):
        code, _, err = harmony("encode", *arguments)
        assert code == 2
        assert said in err.replace("│", "").replace("\n", " ")
