"""`harmony generate`, end to end on a small untrained checkpoint."""

from __future__ import annotations

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

from harmony_core.media import read_audio, read_video
from tests.commands.errors import assert_error


def test_generate_writes_video_sound_plot_and_latents(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    out, latents = tmp_path / "new" / "clip.mp4", tmp_path / "latents.safetensors"
    arguments = ("generate", "a blue ball bounces on metal", "-m", random_checkpoint, "-o", out, "--steps", 2)
    code, printed, err = harmony(*arguments, "--seconds", "0.8", "--save-latents", latents, "--json")
    assert code == 0, err
    facts = json.loads(printed)
    assert facts["written"] == [str(out), str(out.with_suffix(".sync.png")), str(latents)]
    assert (facts["seed"], facts["frames"], facts["fps"], facts["samples"]) == (0, 10, 12.5, 12800)
    clip, sound = read_video(out), read_audio(out)
    assert clip.frames.shape == (10, 256, 256, 3)
    assert sound.duration_s == pytest.approx(0.8, abs=0.01)
    assert Image.open(out.with_suffix(".sync.png")).width > 1000
    first = load_file(latents)
    assert first["video"].shape[2] == 4
    harmony(*arguments, "--seconds", "0.8", "--save-latents", latents, "--no-plot", "--overwrite")
    assert all((load_file(latents)[name] == first[name]).all() for name in first)


def test_the_driver_cache_changes_no_clip(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    common = (
        "generate",
        "a ball",
        "-m",
        random_checkpoint,
        "--steps",
        2,
        "--video-sync-scale",
        2,
        "--no-plot",
        "--overwrite",
    )
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
    common = ("-m", random_checkpoint, "-o", tmp_path / "a.mp4", "--steps", 1, "--json", "--no-plot", "--overwrite")
    for option in ("--audio", "--video"):
        code, printed, err = harmony("generate", "", option, synced_mp4, "--given", "model", *common)
        assert code == 0, err
        facts = json.loads(printed)
        assert facts["frames"] == 38  # 3 s at 12.5 fps, a tie
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
    ball, clip, weights = tmp_path / "ball.sync.png", tmp_path / "v.mp4", tmp_path / "w.safetensors"
    for file in (ball, clip, weights):
        file.write_bytes(b"precious")
    image = ("generate", "", "--image", ball, "-m", hollow)
    assert_error(
        harmony(*image, "-o", tmp_path / "ball.mp4"), "-o's sync plot would overwrite an input", "ball.sync.png"
    )
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


def test_a_wrong_option_is_one_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harmony_core", "generate", "a", "--stepz", "3"],
        cwd=Path(__file__).parents[2],
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
