"""The `harmony` command, end to end on a small untrained checkpoint."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from harmony_core.evaluation.bench import append_csv
from harmony_core.media import read_audio, read_video, write_video


def assert_error(result: tuple[int, str, str], *parts: str) -> None:
    code, _, err = result
    assert code == 2, err
    lines = [line for line in err.strip().splitlines() if line.startswith("error:")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for part in parts:
        assert part in lines[0]


def test_generate_writes_video_sound_plot_and_latents(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    out, latents = tmp_path / "new" / "clip.mp4", tmp_path / "latents.safetensors"
    arguments = ("generate", "a blue ball bounces on metal", "-m", random_checkpoint, "-o", out, "--steps", 2)
    code, printed, err = harmony(*arguments, "--seconds", "0.8", "--save-latents", latents, "--json")
    assert code == 0, err
    facts = json.loads(printed)
    assert facts["written"] == [str(out), str(out.with_suffix(".png")), str(latents)]
    assert (facts["seed"], facts["frames"], facts["fps"], facts["samples"]) == (0, 10, 12.5, 12800)
    clip, sound = read_video(out), read_audio(out)
    assert clip.frames.shape == (10, 256, 256, 3)
    assert sound.duration_s == pytest.approx(0.8, abs=0.01)
    assert Image.open(out.with_suffix(".png")).width > 1000
    first = load_file(latents)
    assert first["video"].shape[2] == 4
    harmony(*arguments, "--seconds", "0.8", "--save-latents", latents, "--no-plot")
    assert all((load_file(latents)[name] == first[name]).all() for name in first)


def test_the_driver_cache_changes_no_clip(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    common = ("generate", "a ball", "-m", random_checkpoint, "--steps", 2, "--video-sync-scale", 2, "--no-plot")
    latents = []
    for where in ("device", "off"):
        files = ("-o", tmp_path / "a.mp4", "--save-latents", tmp_path / f"{where}.safetensors")
        code, _, err = harmony(*common, *files, "--driver-cache", where)
        assert code == 0, err
        latents.append(load_file(tmp_path / f"{where}.safetensors")["video"])
    torch.testing.assert_close(*latents, atol=1e-5, rtol=0)


def test_generate_says_what_it_did(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    code, printed, err = harmony(
        "generate", "word " * 2000, "-m", random_checkpoint, "-o", tmp_path / "a.mp4", "--steps", 1, "--seconds", 0.4
    )
    assert code == 0, err
    assert "The prompt has 2000 words" in printed
    assert "seed 0" in printed
    assert "steps" not in printed


def test_given_media_set_the_length(harmony, random_checkpoint: Path, synced_mp4: Path, tmp_path: Path) -> None:
    common = ("-m", random_checkpoint, "-o", tmp_path / "a.mp4", "--steps", 1, "--json", "--no-plot")
    for option in ("--audio", "--video"):
        code, printed, err = harmony("generate", "", option, synced_mp4, *common)
        assert code == 0, err
        facts = json.loads(printed)
        assert facts["frames"] == 38  # 3 s at 12.5 fps, rounded to even
        assert any(note.startswith("synced.mp4: 25 fps") for note in facts["notes"]) == (option == "--video")
    Image.fromarray(np.full((80, 60, 3), 99, np.uint8)).save(tmp_path / "first.png")
    given = ("--image", tmp_path / "first.png", "--reference-audio", synced_mp4, "--seconds", "0.4")
    code, printed, err = harmony("generate", "", *given, *common)
    assert code == 0, err
    assert any("60x80 -> 64x64" in note for note in json.loads(printed)["notes"])


def test_generate_refuses_before_it_works(harmony, synced_mp4: Path, tmp_path: Path) -> None:
    missing = ("-m", "no-such-checkpoint.safetensors")  # never reached
    (tmp_path / "file").touch()
    out = tmp_path / "a.mp4"
    assert_error(
        harmony("generate", "", "--audio", synced_mp4, "--video", synced_mp4, "-o", out, *missing), "nothing is left"
    )
    assert_error(harmony("generate", "", "-o", tmp_path / "file" / "a.mp4", *missing), "Cannot write", "-o")
    assert_error(harmony("generate", "", "-o", tmp_path / "a.avi", *missing), "a.avi", ".mp4")
    assert_error(harmony("generate", "", "-o", out, "--scale", 0, *missing), "--scale is 0")
    assert_error(harmony("generate", "", "-o", out, "--audio", tmp_path / "no.wav", *missing), "no.wav is missing")
    assert_error(harmony("generate", "", "-o", out, "--image", tmp_path / "file", *missing), "not a picture")
    assert_error(harmony("generate", "", "-o", out, *missing), "no-such-checkpoint", "harmony-tiny")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--steps", "0"), "0"),
        (("--steps", "-3"), "-3"),
        (("--seconds", "0"), "--seconds is 0"),
        (("--seconds", "0.001"), "one frame"),
        (("--seconds", "1e12"), "memory"),
        (("--reference-seconds", "inf"), "--reference-seconds is inf"),
        (("--seconds", "nan"), "nan"),
        (("--fps", "-1"), "-1"),
        (("--width", "50"), "50x64"),
        (("--shift", "0"), "shift"),
        (("--solver", "magic"), "magic"),
        (("--static-video", "noise"), "noise"),
        (("--static-video", "image"), "image"),
        (("--dtype", "int8"), "int8"),
        (("--device", "abacus"), "abacus"),
        (("--driver-cache", "disk"), "--driver-cache is 'disk'"),
        (("--compile", "--offload", "layers"), "--compile"),
    ],
)
def test_values_that_cannot_be_met(harmony, random_checkpoint: Path, tmp_path: Path, arguments, part: str) -> None:
    common = ("generate", "a ball", "-m", random_checkpoint, "-o", tmp_path / "a.mp4")
    assert_error(harmony(*common, *arguments), part)


def test_sync_finds_the_lag_of_a_file(harmony, flashes_and_clicks, tmp_path: Path) -> None:
    write_video(tmp_path / "late.mp4", *flashes_and_clicks(0.08))
    code, printed, err = harmony("sync", tmp_path / "late.mp4", "--json", "--plot", tmp_path / "late.png")
    assert code == 0, err
    facts = json.loads(printed)
    assert facts["lag_ms"] == pytest.approx(80, abs=15)
    assert len(facts["video_events"]) == len(facts["audio_events"]) == 5
    assert Image.open(tmp_path / "late.png").width > 1000
    code, printed, _ = harmony("sync", tmp_path / "late.mp4")
    assert code == 0
    assert "ms late" in printed


def test_sync_of_what_has_no_answer(harmony, flashes_and_clicks, tmp_path: Path) -> None:
    frames, fps, samples, rate = flashes_and_clicks(0)
    write_video(tmp_path / "one.mp4", frames[:1], fps, samples[:, : rate // 25], rate)
    code, printed, _ = harmony("sync", tmp_path / "one.mp4")
    assert code == 0
    assert "1 frames; at least 8" in printed
    write_video(tmp_path / "mute.mp4", frames, fps, None, 0)
    assert_error(harmony("sync", tmp_path / "mute.mp4"), "mute.mp4 has no audio track")
    assert_error(harmony("sync", tmp_path / "nothing.mp4"), "nothing.mp4 is missing")
    assert_error(harmony("sync", tmp_path / "mute.mp4", "--seconds", "0"), "--seconds")


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


def test_encode_writes_latents_and_a_preview(
    harmony, random_checkpoint: Path, synced_mp4: Path, tmp_path: Path
) -> None:
    out, preview = tmp_path / "a.safetensors", tmp_path / "a.mp4"
    code, printed, err = harmony("encode", synced_mp4, "-o", out, "--preview", preview, "-m", random_checkpoint)
    assert code == 0, err
    assert "96x64 -> 64x64" in printed
    assert load_file(out)["video"].shape[2:] == (11, 8, 8)
    assert len(read_video(preview).frames) == 38


def test_bench_appends_rows(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    code, printed, err = harmony(
        "bench", "sampling", "-m", random_checkpoint, "--steps", 1, "--repeats", 1, "-o", table
    )
    assert code == 0, err
    assert "video_to_audio" in printed
    rows = list(csv.DictReader(table.open()))
    assert [row["task"] for row in rows] == ["joint", "joint, no SyncCFG", "audio_to_video", "video_to_audio"]
    ratios = list(csv.DictReader((tmp_path / "a_ratios.csv").open()))
    assert [row["name"] for row in ratios] == ["generate_joint", "generate_audio_to_video", "generate_video_to_audio"]
    assert all(
        float(row["ratio"]) == pytest.approx(float(row["ours"]) / float(row["peer"]), abs=1e-3) for row in ratios
    )
    append_csv(table, rows)
    assert list(csv.DictReader(table.open())) == rows * 2
    assert_error(harmony("bench", "sampling", "-m", random_checkpoint, "--repeats", 0), "repeats is 0")


def test_train_names_the_configs_it_has(harmony, tmp_path: Path) -> None:
    assert_error(harmony("train", "-c", "huge", "-o", tmp_path / "run"), "huge", "tiny")


def test_a_wrong_option_is_one_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harmony_core", "generate", "a", "--stepz", "3"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--stepz" in done.stderr
    assert "Traceback" not in done.stderr


def test_fps_of_the_output_is_exact(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    code, _, err = harmony(
        "generate", "", "-m", random_checkpoint, "-o", out, "--steps", 1, "--seconds", 0.4, "--fps", 10, "--scale", 1
    )
    assert code == 0, err
    clip = read_video(out)
    assert clip.fps == Fraction(10)
    assert clip.frames.shape == (4, 64, 64, 3)


def test_convert_writes_safetensors_and_names_what_it_cannot_read(harmony, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    code, printed, err = harmony("convert", tmp_path / "a.pth", "-o", tmp_path / "a.safetensors")
    assert code == 0, err
    assert "1 tensors" in printed
    assert load_file(tmp_path / "a.safetensors")["a"].tolist() == [1, 1]
    result = harmony("convert", tmp_path / "a.pth", "-o", tmp_path / "b.safetensors", "--kind", "magic")
    assert_error(result, "'magic'", "mmaudio")
