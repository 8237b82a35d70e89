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
from safetensors import safe_open
from safetensors.torch import load_file, save_file

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


@pytest.fixture(scope="module")
def hollow(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that says what it is and has no weights, so that loading them is an error."""
    with safe_open(random_checkpoint, "pt") as file:
        metadata = file.metadata()
    path = tmp_path_factory.mktemp("hollow") / "hollow.safetensors"
    save_file({"model.diffusion_model.a": torch.zeros(1)}, path, metadata=metadata)
    return path


def test_generate_refuses_before_it_works(harmony, hollow: Path, synced_mp4: Path, tmp_path: Path) -> None:
    missing = ("-m", "no-such-checkpoint.safetensors")  # never reached
    (tmp_path / "file").touch()
    out = tmp_path / "a.mp4"
    assert_error(
        harmony("generate", "", "--audio", synced_mp4, "--video", synced_mp4, "-o", out, *missing), "nothing is left"
    )
    assert_error(harmony("generate", "", "-o", tmp_path / "file" / "a.mp4", *missing), "Cannot write", "-o")
    assert_error(harmony("generate", "", "-o", tmp_path / "a.avi", *missing), "a.avi", ".mp4")
    assert_error(harmony("generate", "", "-o", out, "--scale", 0, *missing), "--scale is 0")
    assert_error(harmony("generate", "", "-o", out, "--audio", tmp_path / "no.wav", "-m", hollow), "no.wav is missing")
    assert_error(harmony("generate", "", "-o", out, "--image", tmp_path / "file", "-m", hollow), "not a picture")
    assert_error(harmony("generate", "", "-o", out, *missing), "no-such-checkpoint", "harmony-tiny")
    assert_error(harmony("generate", "", "-o", out, "-m", hollow), "does not fit its config")
    assert_error(harmony("generate", "", "-o", "", *missing), "-o . must end in .mp4, for example harmony.mp4")
    latents = ("--save-latents", tmp_path / "a.pt")
    assert_error(harmony("generate", "", "-o", out, *latents, *missing), "a.pt must end in .safetensors")


def test_no_output_overwrites_an_input_or_another_output(harmony, hollow: Path, tmp_path: Path) -> None:
    """Before any work: the file has to be as it was."""
    ball, clip, weights = tmp_path / "ball.png", tmp_path / "v.mp4", tmp_path / "w.safetensors"
    for file in (ball, clip, weights):
        file.write_bytes(b"precious")
    image = ("generate", "", "--image", ball, "-m", hollow)
    assert_error(harmony(*image, "-o", tmp_path / "ball.mp4"), "-o's sync plot would overwrite an input", "ball.png")
    assert_error(harmony("generate", "", "--video", clip, "-o", clip, "-m", hollow), "-o would overwrite an input")
    (tmp_path / "link.mp4").symlink_to(clip)
    assert_error(harmony("generate", "", "--video", clip, "-o", tmp_path / "link.mp4", "-m", hollow), "an input")
    kept = ("--save-latents", weights, "-o", tmp_path / "a.mp4")
    assert_error(harmony("generate", "", "-m", weights, *kept), "--save-latents would overwrite an input")
    assert_error(harmony("encode", clip, "-o", weights, "-m", weights), "-o would overwrite an input")
    assert_error(harmony("encode", clip, "-o", clip, "-m", hollow), "v.mp4 must end in .safetensors")
    preview = ("--preview", clip, "-o", tmp_path / "a.safetensors")
    assert_error(harmony("encode", clip, *preview, "-m", hollow), "--preview would overwrite an input")
    preview = ("--preview", tmp_path / "a.avi", "-o", tmp_path / "a.safetensors")
    assert_error(harmony("encode", clip, *preview, "-m", hollow), "a.avi must end in .mp4")
    assert_error(harmony("sync", ball, "--plot", ball), "--plot would overwrite an input")
    assert all(file.read_bytes() == b"precious" for file in (ball, clip, weights))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--steps", "0"), "0"),
        (("--steps", "-3"), "-3"),
        (("--seconds", "0"), "--seconds is 0"),
        (("--seconds", "0.001"), "one frame"),
        (("--seconds", "3600", "--width", "8192", "--height", "8192"), "not enough memory"),
        (("--seconds", "1e12"), "seconds is 1000000000000.0, but must be a number from 0 to 3600"),
        (("--seconds", "0.4", "--fps", "1000000"), "fps is 1000000.0, but must be a number from 0 to 240"),
        (("--fps", "12.34567890123"), "fps is 12.34567890123, finer"),
        (("--width", "100000"), "width is 100000"),
        (("--seed", 2**64), "seed is 18446744073709551616"),
        (("--shift", "nan"), "shift is nan"),
        (("--video-sync-scale", "inf"), "video_sync_scale is inf"),
        (("--scale", "300"), "19200x19200 is too large"),
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
        (("--device", "meta"), "--device meta cannot be used here"),
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
    assert facts["range_ms"] == [-500, 500]
    assert facts["lag_confidence"] > 0.5
    assert facts["av_align"] is not None
    assert len(facts["video_events"]) == len(facts["audio_events"]) == 5
    assert Image.open(tmp_path / "late.png").width > 1000
    code, printed, _ = harmony("sync", tmp_path / "late.mp4")
    assert code == 0
    assert "ms late" in printed
    assert "within 500 ms" in printed
    code, printed, _ = harmony("sync", tmp_path / "late.mp4", "--json", "--max-lag", 200)
    assert json.loads(printed)["range_ms"] == [-200, 200]


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
    assert_error(harmony("sync", tmp_path / "mute.mp4", "--max-lag", "0.5"), "--max-lag is 0.5", "milliseconds")
    assert_error(harmony("sync", tmp_path / "nothing.mp4", "--plot", "x.txt"), "--plot x.txt must end in .png")


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


def test_bench_quality_needs_a_batch(harmony, random_checkpoint: Path) -> None:
    for batch in (0, -1):
        assert_error(harmony("bench", "quality", "-m", random_checkpoint, "--batch", batch), f"--batch is {batch}")


def test_bench_plots_takes_its_own_tables(harmony, tmp_path: Path) -> None:
    ops, model = (Path(__file__).parent.parent / "benchmarks" / f"{name}.csv" for name in ("ops", "model"))
    code, printed, err = harmony("bench", "plots", ops, model, "-o", tmp_path)
    assert code == 0, err
    assert len(printed.splitlines()) == len(list(tmp_path.iterdir())) == 6
    assert_error(harmony("bench", "plots", model, ops, "-o", tmp_path), "model.csv has no column op", "bench ops")
    assert_error(harmony("bench", "plots", ops, ops, "-o", tmp_path), "ops.csv has no column part", "bench model")
    (tmp_path / "empty.csv").touch()
    assert_error(harmony("bench", "plots", tmp_path / "empty.csv", ops), "empty.csv has no column op")
    (tmp_path / "header.csv").write_text(ops.read_text().splitlines()[0])
    assert_error(
        harmony("bench", "plots", tmp_path / "header.csv", model, "-o", tmp_path), "header.csv has too few rows"
    )


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
