"""What `harmony generate` writes and where: names, given media as they were, and what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from harmony_core.media import read_audio, read_video
from harmony_core.pipelines.record import read_record
from tests.media.files import shades, tone, write_audio, write_frames

ROOT = Path(__file__).parents[2]
QUICK = (
    "--steps",
    1,
    "--video-text-scale",
    1,
    "--audio-text-scale",
    1,
    "--video-sync-scale",
    1,
    "--audio-sync-scale",
    1,
)


@pytest.fixture
def made(harmony, random_checkpoint: Path):
    """Runs a quick `harmony generate`: the facts that it prints as JSON."""

    def run(*arguments: object) -> dict:
        code, printed, err = harmony("generate", "a ball", "-m", random_checkpoint, *QUICK, "--json", *arguments)
        assert code == 0, err
        return json.loads(printed)

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_run_without_a_name_gets_a_number(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "harmony-2.sync.png").write_bytes(b"precious")
    written = [made("--seconds", 0.4, "--seed", seed)["written"] for seed in (1, 2, 3)]
    assert [[Path(path).name for path in paths] for paths in written] == [
        ["harmony.mp4", "harmony.sync.png"],
        ["harmony-3.mp4", "harmony-3.sync.png"],
        ["harmony-4.mp4", "harmony-4.sync.png"],
    ]
    assert [read_record(Path("out") / name)["seed"] for name in ("harmony.mp4", "harmony-3.mp4", "harmony-4.mp4")] == [
        1,
        2,
        3,
    ]
    assert (tmp_path / "out" / "harmony-2.sync.png").read_bytes() == b"precious"


def test_what_exists_is_replaced_when_asked(harmony, made, random_checkpoint: Path, tmp_path: Path) -> None:
    holiday, film = tmp_path / "holiday.png", tmp_path / "holiday.mp4"
    holiday.write_bytes(b"precious")
    made("-o", film, "--seconds", 0.4)
    assert names(tmp_path) == ["holiday.mp4", "holiday.png", "holiday.sync.png"]
    first = film.read_bytes()
    common = ("generate", "a ball", "-m", random_checkpoint, *QUICK, "--seconds", 0.4, "--seed", 5)
    code, _, err = harmony(*common, "-o", film)
    assert code == 2
    assert "holiday.mp4 exists; choose another name, or give --overwrite to replace it." in err
    latents = tmp_path / "a.safetensors"
    latents.write_bytes(b"precious")
    code, _, err = harmony(*common, "-o", tmp_path / "b.mp4", "--save-latents", latents)
    assert "--save-latents" in err
    assert "exists" in err
    (tmp_path / "c.sync.png").write_bytes(b"precious")
    code, _, err = harmony(*common, "-o", tmp_path / "c.mp4")
    assert "-o's sync plot" in err
    assert film.read_bytes() == first
    made("-o", film, "--seconds", 0.4, "--seed", 5, "--overwrite")
    assert film.read_bytes() != first
    assert {path.read_bytes() for path in (holiday, latents, tmp_path / "c.sync.png")} == {b"precious"}
    film.unlink()
    made("-o", film, "--seconds", 0.4)  # its plot is one that was drawn here


def test_two_processes_with_one_output_both_end_well(random_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harmony_core", "generate", "a ball", "-m", random_checkpoint, *QUICK, "--no-plot"]
    command += ["--seconds", 0.4, "-o", tmp_path / "a.mp4", "--overwrite"]
    both = [subprocess.Popen([*map(str, command), "--seed", seed], cwd=ROOT) for seed in "12"]
    assert [process.wait() for process in both] == [0, 0]
    assert names(tmp_path) == ["a.mp4"]
    assert read_record(tmp_path / "a.mp4")["seed"] in (1, 2)
    assert len(read_video(tmp_path / "a.mp4").frames) == 5


def snr(given: np.ndarray, returned: np.ndarray) -> float:
    length = min(given.shape[-1], returned.shape[-1])
    given, returned = given[..., :length], returned[..., :length]
    return 10 * np.log10((given**2).sum() / ((given - returned) ** 2).sum())


def speech(seconds: float, rate: int) -> np.ndarray:
    """Harmonics whose pitch and loudness move."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 1.3 * time)) / rate
    voiced = sum(np.sin(k * phase) / k for k in range(1, 20))
    return (0.15 * voiced * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)


@pytest.mark.parametrize(("rate", "layout"), [(48000, "mono"), (44100, "stereo"), (16000, "mono"), (48000, "5.1")])
def test_a_given_sound_comes_back_as_it_was(made, tmp_path: Path, rate: int, layout: str) -> None:
    write_audio(tmp_path / "a.wav", "pcm_s16le", rate, layout, speech(1.2, rate))
    given = read_audio(tmp_path / "a.wav")
    facts = made("--audio", tmp_path / "a.wav", "-o", tmp_path / "a.mp4")
    assert (facts["frames"], facts["fps"], facts["sample_rate"]) == (15, 12.5, rate)
    returned = read_audio(tmp_path / "a.mp4")
    assert returned.sample_rate == rate
    assert len(returned.samples) == len(given.samples)
    assert abs(returned.duration_s - given.duration_s) < 0.005
    heard = [index for index, name in enumerate(given.channels or ("FC",)) if name != "LFE"]
    assert snr(given.samples[heard], returned.samples[heard]) > 20
    model = made("--audio", tmp_path / "a.wav", "-o", tmp_path / "b.mp4", "--given", "model")
    assert model["sample_rate"] == 16000
    assert len(read_audio(tmp_path / "b.mp4").samples) == 1


def test_a_given_sound_is_cut_padded_and_put_at_a_rate_that_films_have(made, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", "pcm_s16le", 22254, "mono", speech(1.0, 22254))
    for seconds, heard_s in ((0.4, 0.4), (1.6, 1.0)):
        facts = made("--audio", tmp_path / "a.wav", "--seconds", seconds, "-o", tmp_path / f"{seconds}.mp4")
        assert "a.wav: 22254 Hz -> 24000 Hz, films have no such rate" in facts["notes"]
        returned = read_audio(tmp_path / f"{seconds}.mp4")
        assert returned.sample_rate == 24000
        assert float(returned.duration_s) == pytest.approx(seconds, abs=0.005)
        assert np.flatnonzero(np.abs(returned.samples[0]) > 0.02)[-1] / 24000 == pytest.approx(heard_s, abs=0.03)


def film(path: Path, seconds: float, size: tuple[int, int] = (320, 180), fps: int = 30) -> list[np.ndarray]:
    """A moving bar on pure green."""
    pictures = []
    for index in range(round(seconds * fps)):
        picture = np.zeros((size[1], size[0], 3), np.uint8)
        picture[:, :, 1] = 255
        picture[:, 5 * index % (size[0] - 20) :][:, :20] = (20, 40, 220)
        pictures.append(picture)
    write_frames(path, "ffv1", pictures, list(range(len(pictures))), Fraction(1, fps))
    return pictures


def test_a_given_film_comes_back_as_it_was(made, tmp_path: Path) -> None:
    pictures = film(tmp_path / "a.mkv", 1.2)
    facts = made("--video", tmp_path / "a.mkv", "-o", tmp_path / "a.mp4")
    assert (facts["frames"], facts["fps"], facts["size"]) == (36, 30, [320, 180])
    clip, sound = read_video(tmp_path / "a.mp4"), read_audio(tmp_path / "a.mp4")
    assert (clip.fps, clip.frames.shape) == (30, (36, 180, 320, 3))
    error = np.abs(clip.frames.astype(int) - np.stack(pictures))
    assert error.mean() < 3
    np.testing.assert_allclose(clip.frames[0, 90, 200], (0, 255, 0), atol=4)
    assert float(sound.duration_s) == pytest.approx(1.2, abs=0.005)
    model = made("--video", tmp_path / "a.mkv", "-o", tmp_path / "b.mp4", "--given", "model")
    assert (model["frames"], model["fps"], model["size"]) == (15, 12.5, [64, 64])


def test_a_given_film_is_cut_and_held(made, tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", 1.0, size=(97, 65))
    for seconds in (0.4, 1.6):
        facts = made("--video", tmp_path / "a.mkv", "--seconds", seconds, "-o", tmp_path / f"{seconds}.mp4")
        assert facts["frames"] == round(30 * seconds)
        assert "a.mkv: 97x65 -> 96x64, H.264 takes even sizes" in facts["notes"]
        clip = read_video(tmp_path / f"{seconds}.mp4")
        assert clip.frames.shape == (round(30 * seconds), 64, 96, 3)
        assert float(read_audio(tmp_path / f"{seconds}.mp4").duration_s) == pytest.approx(seconds, abs=0.005)
    assert np.abs(clip.frames[29].astype(int) - clip.frames[-1]).mean() < 1, "its last frame is held"


def test_a_film_of_uneven_frames_comes_back_in_time(made, tmp_path: Path) -> None:
    write_frames(tmp_path / "a.mkv", "ffv1", shades(4), [0, 100, 400, 500], Fraction(1, 1000))
    made("--video", tmp_path / "a.mkv", "-o", tmp_path / "a.mp4")
    clip = read_video(tmp_path / "a.mp4")
    assert clip.fps == 10
    assert [round(frame.mean() / 10) - 1 for frame in clip.frames] == [0, 1, 1, 1, 2, 3]


def test_given_takes_one_of_two_words(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    code, _, err = harmony("generate", "a", "-m", random_checkpoint, "-o", tmp_path / "a.mp4", "--given", "mine")
    assert code == 2
    assert "--given is 'mine', but must be one of original, model." in err


def test_a_track_is_named_and_another_can_be_asked_for(made, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(2)]
        for stream, hertz in zip(streams, (440, 880), strict=True):
            samples = (tone(0.8, 16000, hertz) * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
            container.mux(stream.encode(frame))
    for track, hertz in ((None, 440), (2, 880)):
        asked = () if track is None else ("--audio-track", track)
        facts = made("--audio", tmp_path / "a.mkv", "-o", tmp_path / f"{hertz}.mp4", *asked)
        assert any(note.startswith(f"a.mkv: audio track {track or 1} of 2") for note in facts["notes"])
        spectrum = np.abs(np.fft.rfft(read_audio(tmp_path / f"{hertz}.mp4").samples[0]))
        assert spectrum.argmax() / 0.8 == pytest.approx(hertz, abs=3)


def test_what_should_be_known_is_said_before_sampling(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(tmp_path / "a.png")
    asked = ("--width", 128, "--height", 128, "--fps", 24, "--seconds", 0.5, "--image", tmp_path / "a.png")
    asked += ("--static-video", "estimate", "--negative-prompt", "blur", "--solver", "none of ours")
    code, printed, err = harmony("generate", "a", "-m", random_checkpoint, *QUICK, *asked, "-o", tmp_path / "a.mp4")
    assert code == 2
    assert "none of ours" in err
    assert printed == ""
    code, printed, err = harmony(
        "generate", "红球", "-m", random_checkpoint, *QUICK, *asked[:-2], "-o", tmp_path / "a.mp4"
    )
    assert code == 0, err
    for note in (
        "128x128 is not a size this checkpoint was trained at (64x64). Expect a worse clip.",
        "24 fps is not the rate this checkpoint was trained at (12.5 fps). Expect a worse clip.",
        "0.5 s is not a length this checkpoint was trained at (2 s). Expect a worse clip.",
        "a.png: transparent parts are shown on white",
        "static_video 'estimate' is not used: no sound is made, or audio_sync_scale is 1.",
        "negative_prompt is not used: both text scales are 1.",
        "Words this checkpoint does not know: 红球.",
    ):
        assert f"note: {note}\n" in printed, printed
    assert printed.index("note: ") < printed.index(": 0.5 s, seed 0")


def test_lengths_are_as_asked_or_it_is_said(made, tmp_path: Path) -> None:
    for index, (seconds, frames) in enumerate(((0.5, 6), (0.52, 7), (0.6, 8), (0.64, 8))):
        facts = made("--seconds", seconds, "-o", tmp_path / f"{index}.mp4")
        assert facts["frames"] == frames  # 6.25, 6.5, 7.5 and 8 frames: ties go up
        said = [note for note in facts["notes"] if "whole frames" in note]
        expected = f"{seconds:g} s at 12.5 fps is {frames / 12.5:g} s: {frames} whole frames."
        assert said == ([] if seconds == 0.64 else [expected])


@pytest.mark.parametrize(
    ("written", "rate"), [("30000/1001", "30000/1001"), ("23.976", "24000/1001"), ("29.97", "30000/1001"), ("25", "25")]
)
def test_rates_are_what_they_mean(made, tmp_path: Path, written: str, rate: str) -> None:
    made("--seconds", 0.4, "--fps", written, "-o", tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == Fraction(rate)
    assert read_record(tmp_path / "a.mp4")["fps"] == rate


def test_the_request_is_in_the_clip_without_places(made, tmp_path: Path, synced_mp4: Path) -> None:
    made("--audio", synced_mp4, "--seconds", 0.4, "-o", tmp_path / "a.mp4")
    record = read_record(tmp_path / "a.mp4")
    assert (record["prompt"], record["seconds"], record["steps"]) == ("a ball", 0.4, 1)
    assert record["audio"]["file"] == "synced.mp4"
    assert re.fullmatch("[0-9a-f]{64}", record["audio"]["sha256"])
    assert record["weights"][0]["file"] == "random.safetensors"
    assert str(tmp_path.parent) not in json.dumps(record)


def test_control_characters_of_files_are_not_obeyed(harmony, random_checkpoint: Path, tmp_path: Path) -> None:
    name = "\x1b[2Jmissing.wav"
    code, _, err = harmony(
        "generate", "a", "-m", random_checkpoint, "--audio", tmp_path / name, "-o", tmp_path / "a.mp4"
    )
    assert code == 2
    assert "?[2Jmissing.wav is missing" in err
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(2)]
        streams[0].metadata["title"] = "com\x1b]0;mentary\x07"
        for stream in streams:
            frame = av.AudioFrame.from_ndarray((tone(0.4, 16000) * 32767).astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
            container.mux(stream.encode(frame))
    common = ("generate", "a", "-m", random_checkpoint, *QUICK, "--audio", tmp_path / "a.mkv", "--no-plot")
    code, printed, err = harmony(*common, "-o", tmp_path / "a.mp4")
    assert code == 0, err
    assert "note: a.mkv: audio track 1 of 2 (com?]0;mentary?), none is flagged default\n" in printed
    assert "\x1b" not in printed
