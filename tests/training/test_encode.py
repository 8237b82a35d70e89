"""Data sets to shards: every usable row encoded, every other one listed, whatever stops the run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState

from harmony_core.checkpoints import CheckpointError
from harmony_core.checkpoints.parts import PartFiles, load_parts
from harmony_core.media import write_video
from harmony_core.pipelines import HarmonyPipeline
from harmony_core.training.data.buckets import Buckets
from harmony_core.training.data.encode import encode_dataset
from harmony_core.training.data.loader import Batches
from harmony_core.training.data.shards import Shards, read_entries
from tools.manifest import make_clips, make_manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def manifest(clips: Path) -> Path:
    return make_manifest(clips, rows=40)


def rejected(folder: Path) -> dict[int, str]:
    lines = (folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    return {each["row"]: each["reason"] for each in map(json.loads, lines)}


def launch(manifest: Path, output: Path, *launcher: str) -> list[str]:
    return [sys.executable, *launcher, "-m", "harmony_core", "encode", str(manifest), "-o", str(output)]


def test_everything_usable_is_encoded_and_everything_else_listed(harmony, manifest: Path, tmp_path: Path) -> None:
    code, printed, err = harmony("encode", manifest, "-o", tmp_path / "set")
    assert code == 1, err
    expected = json.loads(manifest.with_suffix(".expected.json").read_text())
    found = rejected(tmp_path / "set")
    assert {str(row) for row in found} == set(expected["rejected"])
    for row, reason in expected["rejected"].items():
        assert reason in found[int(row)], (row, found[int(row)])
    shards = Shards(tmp_path / "set")
    assert [entry.id for entry in shards.entries] == expected["usable"]
    summary = json.loads((tmp_path / "set" / "summary.json").read_text())
    assert summary["clips"] + summary["rejected"] == 40
    assert 0 < summary["with_video"] < summary["clips"]
    assert 0 < summary["with_sound"] < summary["clips"]
    assert f"{summary['clips']} clips" in printed
    assert f"not usable: {summary['rejected']} rows" in err
    assert shards.mute(50).shape == (20, 50)


def test_a_clip_is_what_the_one_file_form_makes_of_it(harmony, clips: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    (tmp_path / "m.jsonl").write_text(json.dumps({"id": "a", "video": str(clips / "0.mp4"), "prompt": "a red ball"}))
    assert harmony("encode", tmp_path / "m.jsonl", "-o", tmp_path / "set")[0] == 0
    assert harmony("encode", clips / "0.mp4", "-o", tmp_path / "a.safetensors")[0] == 0
    alone, sample = load_file(tmp_path / "a.safetensors"), Shards(tmp_path / "set")[0]
    torch.testing.assert_close(sample.video, alone["video"][0].half())
    torch.testing.assert_close(sample.audio, alone["audio"][0].half())


def test_a_folder_and_csv_are_read_alike(harmony, clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    (folder / "größe").mkdir(parents=True)
    shutil.copy(clips / "0.mp4", folder / "größe" / "eins.mp4")
    (folder / "größe" / "eins.txt").write_text("a red ball bounces", encoding="utf-8")
    (folder / "größe" / "eins.audio.txt").write_text("a ball hits metal")
    shutil.copy(clips / "0.mp4", folder / "lonely.mp4")
    assert harmony("encode", folder, "-o", tmp_path / "a")[0] == 1
    assert list(rejected(tmp_path / "a").values()) == ["lonely.mp4 has no lonely.txt beside it."]
    with (tmp_path / "m.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "video", "prompt", "audio_prompt", "end"])
        table.writerow(["größe/eins", "media/größe/eins.mp4", "a red ball bounces", "a ball hits metal", ""])
    assert harmony("encode", tmp_path / "m.csv", "-o", tmp_path / "b")[0] == 0
    one, other = Shards(tmp_path / "a"), Shards(tmp_path / "b")
    assert one.entries[0].checksum == other.entries[0].checksum
    (tmp_path / "n.csv").write_text("id,vidoe\na,b\n")
    assert "has columns ['vidoe']" in harmony("encode", tmp_path / "n.csv", "-o", tmp_path / "c")[2]


@pytest.mark.slow
def test_a_killed_run_goes_on_at_the_clip(manifest: Path, tmp_path: Path, harmony) -> None:
    """What was encoded before the kill is the same file after it, and the end result that of a run in one go."""
    output = tmp_path / "killed"
    run = subprocess.Popen(launch(manifest, output), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(output.glob("parts/*.safetensors"))) < 3:
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    before = {part.stem: part.stat().st_mtime_ns for part in output.glob("parts/*.safetensors")}
    assert before
    assert harmony("encode", manifest, "-o", output)[0] == 1
    first = read_entries(output / "shards" / "0000-00000.jsonl")
    assert {entry.row for entry in first} == set(before)
    assert harmony("encode", manifest, "-o", tmp_path / "whole")[0] == 1
    one, other = Shards(output).entries, Shards(tmp_path / "whole").entries
    assert [(entry.id, entry.checksum) for entry in one] == [(entry.id, entry.checksum) for entry in other]


@pytest.mark.slow
def test_two_processes_share_the_rows(manifest: Path, tmp_path: Path, harmony) -> None:
    done = subprocess.run(
        launch(manifest, tmp_path / "shared", "-m", "torch.distributed.run", "--nproc_per_node", "2"),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert (tmp_path / "shared" / "index.jsonl").is_file(), done.stderr[-2000:]
    assert {path.name[:4] for path in (tmp_path / "shared" / "shards").iterdir()} == {"0000", "0001"}
    assert harmony("encode", manifest, "-o", tmp_path / "alone")[0] == 1
    one, other = Shards(tmp_path / "shared"), Shards(tmp_path / "alone")
    assert [(entry.id, entry.checksum) for entry in one.entries] == [(e.id, e.checksum) for e in other.entries]
    assert rejected(tmp_path / "shared") == rejected(tmp_path / "alone")


def test_a_damaged_shard_is_found_and_made_anew(harmony, manifest: Path, tmp_path: Path) -> None:
    output = tmp_path / "set"
    harmony("encode", manifest, "-o", output)
    whole = [(entry.id, entry.checksum) for entry in Shards(output).entries]
    path = output / "shards" / "0000-00000.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    shards = Shards(output)
    with pytest.raises(CheckpointError, match="is damaged: its checksum is another; run harmony encode again"):
        [shards[index] for index in range(len(shards))]
    harmony("encode", manifest, "-o", output)
    mended = Shards(output)
    assert [(entry.id, entry.checksum) for entry in mended.entries] == whole
    assert sum(entry.shard.startswith("0000-00001") for entry in mended.entries) == 1
    assert len([mended[index] for index in range(len(mended))]) == len(whole)
    path.unlink()
    harmony("encode", manifest, "-o", output)
    assert [(entry.id, entry.checksum) for entry in Shards(output).entries] == whole


def test_files_that_change_while_others_are_encoded_are_indexed_or_listed(clips: Path, tmp_path: Path) -> None:
    """One is touched and one is gone after it was encoded, one before, and what was made of one is damaged."""
    names = ["touched", "gone", "damaged", "whole", "missing"]
    for name in names:
        shutil.copy(clips / "0.mp4", tmp_path / f"{name}.mp4")
    rows = [{"id": name, "video": f"{name}.mp4", "prompt": "a ball"} for name in names]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def change(done: int, _total: int) -> None:
        if done == 3:
            os.utime(tmp_path / "touched.mp4", (1, 1))
            (tmp_path / "gone.mp4").unlink()
            (tmp_path / "missing.mp4").unlink()
            last = max((tmp_path / "set" / "parts").iterdir(), key=lambda part: part.stat().st_mtime_ns)
            last.write_bytes(last.read_bytes()[:-1] + b"?")

    pipeline = HarmonyPipeline.from_file()
    common = pipeline, Buckets.of(pipeline.config), PartialState()
    encode_dataset(tmp_path / "m.jsonl", tmp_path / "set", *common, change)
    assert [entry.id for entry in Shards(tmp_path / "set").entries] == ["touched", "gone", "whole"]
    found = rejected(tmp_path / "set")
    assert list(found) == [3, 5]
    assert "run harmony encode again" in found[3]
    assert "missing.mp4" in found[5]
    encode_dataset(tmp_path / "m.jsonl", tmp_path / "set", *common)
    assert [entry.id for entry in Shards(tmp_path / "set").entries] == ["touched", "damaged", "whole"]


def test_clips_of_one_file_overlap_however_its_path_is_written(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one manifest, and from run to run, to which the files may have moved."""

    def encode(folder: Path, manifest: Path, *videos: str) -> Shards:
        rows = [{"id": f"{n}", "video": video, "prompt": "a ball"} for n, video in enumerate(videos)]
        (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
        encode_dataset(manifest, tmp_path / "set", pipeline, Buckets.of(pipeline.config), PartialState())
        return Shards(tmp_path / "set")

    pipeline = HarmonyPipeline.from_file()
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "media").mkdir(parents=True)
    for name in ("a.mp4", "media/a.mp4"):
        shutil.copy(clips / "0.mp4", here / name)
    monkeypatch.chdir(tmp_path)
    encode(here, Path("here/m.jsonl"), "a.mp4")
    here.rename(there)
    (there / "link.mp4").symlink_to("a.mp4")
    written = "a.mp4", str(there / "a.mp4"), "media/../a.mp4", "link.mp4"
    shards = encode(there, there / "m.jsonl", *written, "media/a.mp4")
    first, *others = shards.entries
    assert [first.overlaps(other) for other in others] == [True, True, True, False]
    assert first.shard != others[0].shard  # made in the first run
    assert str(tmp_path) not in (shards.folder / "index.jsonl").read_text()


def test_other_settings_need_another_folder(harmony, manifest: Path, random_checkpoint: Path, tmp_path: Path) -> None:
    harmony("encode", manifest, "-o", tmp_path / "set")
    code, _, err = harmony("encode", manifest, "-o", tmp_path / "set", "-m", random_checkpoint)
    assert (code, "was made with video_autoencoder" in err) == (2, True)


def test_a_part_of_a_film_and_what_follows_it(harmony, tmp_path: Path) -> None:
    """`start` cuts pictures and sound alike; sound beyond the clip is its reference."""
    fps, rate = Fraction(25, 2), 16000
    frames = np.stack([np.full((64, 64, 3), 2 * index, np.uint8) for index in range(75)])
    time_s = np.arange(6 * rate) / rate
    samples = (0.3 * np.sin(2 * np.pi * 440 * time_s) * (time_s > 3)).astype(np.float32)[None]
    write_video(tmp_path / "film.mp4", frames, fps, samples, rate)
    write_video(tmp_path / "end.mp4", frames[37:62], fps, samples[:, round(2.96 * rate) : round(4.96 * rate)], rate)
    rows = [
        {"id": "part", "video": "film.mp4", "prompt": "a ball", "start": 2.96, "end": 5.5},
        {"id": "alone", "video": "end.mp4", "prompt": "a ball"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, _, err = harmony("encode", tmp_path / "m.jsonl", "-o", tmp_path / "set")
    assert code == 0, err
    part, alone = (Shards(tmp_path / "set")[index] for index in range(2))
    assert part.video is not None
    assert part.video.shape == alone.video.shape
    assert (part.video - alone.video).abs().mean() < 0.15 * alone.video.float().std()
    assert (part.audio - alone.audio).abs().mean() < 0.15 * alone.audio.float().std()
    assert part.reference is not None
    assert part.reference.shape == (20, 12)
    assert alone.reference is None


def test_published_parts_keep_features_as_long_as_their_text(
    harmony, parts: dict[str, Path], clips: Path, tmp_path: Path
) -> None:
    rows = [
        {"id": "long", "video": str(clips / "0.mp4"), "prompt": "a red ball hits wood", "transcript": "hello"},
        {"id": "short", "video": str(clips / "0.mp4"), "audio_prompt": "wood"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = ("-m", parts["harmony"], "--video-vae", parts["video_vae"], "--text-encoder", parts["text_encoder"])
    files += ("--tokenizer", parts["tokenizer"], "--audio-vae", parts["audio_vae"], "--audio-vae", parts["vocoder"])
    code, _, err = harmony("encode", tmp_path / "m.jsonl", "-o", tmp_path / "set", *files)
    assert code == 0, err
    shards = Shards(tmp_path / "set")
    long, short = shards[0], shards[1]
    assert shards.settings.text == "features"
    assert long.text.shape == (6, 24)  # five words and the end mark
    assert short.audio_text.shape == (2, 24)
    assert long.transcript is not None
    assert long.video is not None
    assert long.video.shape == (48, 3, 2, 2)
    encoder = load_parts(
        PartFiles(
            model=[parts["harmony"]],
            video_vae=parts["video_vae"],
            audio_vae=[parts["audio_vae"], parts["vocoder"]],
            text_encoder=parts["text_encoder"],
            tokenizer=parts["tokenizer"],
        ),
        torch.float32,
    ).text_encoder
    features = encoder.encode(["a red ball hits wood"])[0]
    batch = Batches(shards, 2).at(0)
    row = batch.ids.index("long")
    torch.testing.assert_close(batch.video_text[row], features[0].bfloat16().float())
