"""A hostile data set for `harmony encode`: small clips in every state, and what is to become of each.

python -m tools.manifest --rows 10000 -o out/hostile
harmony encode out/hostile/manifest.jsonl -o out/shards
python -m tools.manifest --check out/shards -o out/hostile
"""

from __future__ import annotations

import argparse
import json
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from harmony_core.media import write_video
from harmony_core.toyworld import FPS, SAMPLE_RATE, render, sample_scene

WHAT_IS_SAID = {"prompt": "a red ball bounces", "audio_prompt": "a ball hits metal"}
# What a row holds beside its id and texts, and what the reason of its rejection says; None: usable.
KINDS: dict[str, tuple[dict, str | None]] = {
    "film": ({"video": "0.mp4", "language": "en", "speaker": "a"}, None),
    "film in Matroska": ({"video": "0.mkv"}, None),
    "film without sound": ({"video": "mute.mp4"}, None),
    "film of odd rates": ({"video": "odd.mp4", "language": "de"}, None),
    "part of a film": ({"video": "odd.mp4", "start": 1.0, "end": 2.8, "speaker": "b"}, None),
    "sound alone": ({"audio": "alone.wav", "transcript": "one two"}, None),
    "film with a sound of its own": ({"video": "mute.mp4", "audio": "alone.wav"}, None),
    "name beyond ASCII": ({"video": "größe 球.mp4", "reference": "alone.wav"}, None),
    "wide film": ({"video": "wide.mp4"}, None),
    "one frame": ({"video": "frame.mp4"}, "it has 1 frames at 12.5 fps, but the shortest bucket 5"),
    "panorama": ({"video": "panorama.mp4"}, "less than half would be left"),
    "cut short": ({"video": "cut.mp4"}, "cut.mp4"),
    "noise": ({"video": "noise.mp4"}, "cannot be read as media"),
    "empty file": ({"video": "empty.mp4"}, "empty.mp4"),
    "text for a film": ({"video": "text.mp4"}, "cannot be read as media"),
    "sound for a film": ({"video": "alone.wav"}, "no video track"),
    "missing file": ({"video": "missing.mp4"}, "missing.mp4 is missing"),
    "no file": ({}, "neither video nor audio names a file"),
    "no text": ({"video": "0.mp4", "prompt": "", "audio_prompt": ""}, "are all empty"),
    "span that is none": ({"video": "0.mp4", "start": 2.0, "end": 1.0}, "start must be 0 or more and before end"),
    "span beyond the end": ({"video": "0.mp4", "start": 50.0}, "50 s"),
    "unknown field": ({"video": "0.mp4", "vidoe": "0.mp4"}, "unknown: vidoe"),
    "wrong type": ({"video": 7}, "must be of type str"),
    "long transcript": ({"video": "0.mp4", "transcript": "word " * 99}, "but this checkpoint takes 24"),
}


def make_clips(folder: Path) -> Path:
    """The files that manifests name."""
    clip = render(sample_scene(np.random.default_rng(0), "ball"))
    fps, sound_CN = Fraction(str(FPS)), np.atleast_2d(clip.audio).astype(np.float32)
    write_video(folder / "0.mp4", clip.video, fps, sound_CN, SAMPLE_RATE)
    write_video(folder / "mute.mp4", clip.video, fps, None, SAMPLE_RATE)
    write_video(folder / "größe 球.mp4", clip.video, fps, sound_CN, SAMPLE_RATE)
    write_video(folder / "frame.mp4", clip.video[:1], fps, None, SAMPLE_RATE)
    write_video(folder / "wide.mp4", np.tile(clip.video, (1, 1, 2, 1))[:, :, :96], fps, sound_CN, SAMPLE_RATE)
    write_video(folder / "panorama.mp4", np.tile(clip.video, (1, 1, 4, 1)), fps, None, SAMPLE_RATE)
    odd = np.repeat(clip.video, 4, axis=0)[:90]
    write_video(folder / "odd.mp4", odd, Fraction(30000, 1001), np.tile(sound_CN, 3)[:, : 3 * 22050], 22050)
    with av.open(str(folder / "alone.wav"), "w") as container:
        track = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        whole = np.ascontiguousarray(sound_CN.clip(-1, 1) * 32767, np.int16)
        frame = av.AudioFrame.from_ndarray(whole, "s16", "mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux([*track.encode(frame), *track.encode(None)])
    with av.open(str(folder / "0.mp4")) as source, av.open(str(folder / "0.mkv"), "w") as target:
        tracks = {each: target.add_stream_from_template(each) for each in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = tracks[packet.stream]
                target.mux(packet)
    (folder / "cut.mp4").write_bytes((folder / "0.mp4").read_bytes()[:400])
    (folder / "noise.mp4").write_bytes(random.Random(0).randbytes(5000))
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("a red ball bounces\n" * 20)
    return folder


def make_manifest(folder: Path, rows: int) -> Path:
    """`manifest.jsonl` beside the clips, every kind in turn and some ids twice, and `manifest.expected.json`."""
    path, names = folder / "manifest.jsonl", list(KINDS)
    lines: list[str] = []
    usable: list[str] = []
    refused: dict[int, str] = {}
    for row in range(1, rows + 1):
        if row % 37 == 0:
            lines.append("{this is no JSON")
            refused[row] = "not JSON"
            continue
        kind = names[row % len(names)]
        values, reason = KINDS[kind]
        id = f"{kind} {row}"
        if row % 31 == 0:
            id, reason = usable[-1], "has the same id"
            values = KINDS["film"][0]
        values = {"id": id, **WHAT_IS_SAID, **values}
        if row % 2 and reason is None:  # absolute paths and relative ones
            values |= {name: str(folder / values[name]) for name in ("video", "audio") if name in values}
        lines.append(json.dumps(values, ensure_ascii=bool(row % 3)))
        if reason is None:
            usable.append(id)
        else:
            refused[row] = reason
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    expected = {"usable": usable, "rejected": refused}
    path.with_suffix(".expected.json").write_text(json.dumps(expected), encoding="utf-8")
    return path


def check(folder: Path, shards: Path) -> str:
    """Raises ValueError where the shards differ from what the manifest's maker expects."""
    expected = json.loads((folder / "manifest.expected.json").read_text(encoding="utf-8"))
    found = [json.loads(line)["id"] for line in (shards / "index.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = map(json.loads, (shards / "rejected.jsonl").read_text(encoding="utf-8").splitlines())
    reasons = {str(each["row"]): each["reason"] for each in lines}
    if found != expected["usable"]:
        raise ValueError(f"{len(found)} clips are encoded, but other {len(expected['usable'])} were to be.")
    wrong = [row for row, reason in expected["rejected"].items() if reason not in reasons.get(row, "")]
    if wrong or len(reasons) != len(expected["rejected"]):
        raise ValueError(f"rows {wrong[:9]} are not rejected for the reason that they should be.")
    return f"{len(found)} clips encoded, {len(reasons)} rows listed with their reasons, as expected"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--check", type=Path, help="shards that were made of the manifest")
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder of the clips and the manifest")
    options = parser.parse_args()
    if options.check is not None:
        print(check(options.output, options.check))
        return
    options.output.mkdir(parents=True, exist_ok=True)
    print(make_manifest(make_clips(options.output), options.rows))


if __name__ == "__main__":
    main()
