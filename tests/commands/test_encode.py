"""`harmony encode`."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from safetensors.torch import load_file

from harmony_core.media import fit_audio, read_audio, read_video
from harmony_core.pipelines import HarmonyPipeline


def test_encode_writes_latents_and_a_preview(
    harmony, random_checkpoint: Path, synced_mp4: Path, tmp_path: Path
) -> None:
    out, preview = tmp_path / "a.safetensors", tmp_path / "a.mp4"
    code, printed, err = harmony("encode", synced_mp4, "-o", out, "--preview", preview, "-m", random_checkpoint)
    assert code == 0, err
    assert "96x64 -> 64x64" in printed
    assert load_file(out)["video"].shape[2:] == (11, 8, 8)
    assert len(read_video(preview).frames) == 38


def test_sound_moves_with_pictures_that_begin_between_frames(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    """Frames 30 ms late stand on the grid in the clip, so the sound of their moment is 30 ms earlier as well."""
    with av.open(str(tmp_path / "late.mkv"), "w") as container:
        video = container.add_stream("libx264", 25, width=64, height=64, pix_fmt="yuv420p")
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("pcm_s16le", 16000, layout="mono")
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
            frame.pts, frame.time_base = 80 * index + 30, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        noise = np.random.default_rng(0).integers(-9999, 9999, (1, 32000)).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(noise, "s16", "mono")
        sound.sample_rate, sound.pts, sound.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    code, _, err = harmony("encode", tmp_path / "late.mkv", "-o", tmp_path / "a.safetensors", "-m", random_checkpoint)
    assert code == 0, err
    made = load_file(tmp_path / "a.safetensors")["audio"]
    pipeline = HarmonyPipeline.from_file(random_checkpoint)
    num_latents, num_samples = made.shape[2], made.shape[2] * 640
    clip = read_audio(tmp_path / "late.mkv")
    for late, near in ((480, True), (0, False)):
        moved = replace(clip, samples=clip.samples[:, late:])
        expected = pipeline.encode_audio(fit_audio(moved, num_samples, 16000)[0], num_latents)
        assert torch.allclose(made[:, :, :-2], expected[:, :, :-2], atol=1e-3) == near


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
