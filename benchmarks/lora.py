"""A LoRA on clips of one's own: a new look and a new voice in, and the rest as it was.

    python -m benchmarks.lora -o out/lora                    # films, shards, training, clips with and without it
    python -m benchmarks.lora -o out/look --targets video

`tools/own_clips.py` says what the films show. Between the films and the measures are `harmony encode`, `harmony train`
and the pipeline that `harmony generate` runs. Scenes that no training saw are generated from the same seeds without and
with the LoRA: `new` ones, whose captions call for the new look or voice, and others, `as ever`.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from harmony_core.benchmarks.quality import Clip, Generated, HeldOut, bootstrap_interval, round_trip, score
from harmony_core.benchmarks.sheet import contact_sheet
from harmony_core.checkpoints import load_bundle
from harmony_core.checkpoints.lora import apply_lora
from harmony_core.pipelines import HarmonyPipeline
from harmony_core.toyworld import BallScene, render
from harmony_core.toyworld.measures.impacts import ball_weight
from harmony_core.toyworld.measures.traits import timbre
from harmony_core.toyworld.pictures import FLOOR_Y
from tools.own_clips import new_clip, scenes, write_clips

HELD_OUT_SEED = 3_000_000
NEW, AS_EVER = "new", "as ever"
FILMS = "films"
TRAINING = {
    "start": {"model": "harmony-tiny"},
    "batch_size": 8,
    "objective": {
        "kind": "split_batch",
        "audio_driven_share": 0.125,
        "video_driven_share": 0.125,
        "reference_share": 0.0,
        "shift": 3.0,
    },
    "optimizer": {"kind": "adamw", "adamw_lr": 2e-3, "warmup_steps": 20, "decay_share": 0.4, "ema": 0.98},
}


def harmony(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "harmony_core", *map(str, arguments)], check=True)


def train(folder: Path, clips: int, steps: int, targets: str) -> Path:
    """Films to a LoRA; what is there already is taken from there."""
    shards, run = folder / "shards", folder / "run"
    if not (shards / "summary.json").exists():
        harmony("encode", write_clips(folder / "films", clips), "-o", shards)
    prompts = folder / "prompts.jsonl"
    chosen = [*scenes(2, True, HELD_OUT_SEED), *scenes(2, False, HELD_OUT_SEED)]
    names = {"prompt": "video_caption", "audio_prompt": "audio_caption", "transcript": "transcript"}
    prompts.write_text(
        "".join(json.dumps({key: getattr(scene, name) for key, name in names.items()}) + "\n" for scene in chosen)
    )
    settings = {"steps": steps, "data": {"shards": str(shards)}, "lora": {"rank": 16, "targets": targets}}
    settings["samples"] = {"prompts": str(prompts)}
    config = folder / "lora.yaml"
    config.write_text(yaml.safe_dump(TRAINING | settings))
    harmony("train", "-c", config, "-o", run, *(["--resume"] if run.exists() else []))
    return run / "lora.safetensors"


def held_out(count: int, new: bool) -> list[HeldOut]:
    """Scenes as a listener of the films expects them."""
    found = []
    for index, scene in enumerate(scenes(count, new, HELD_OUT_SEED)):
        clip = render(scene)
        if new:
            video, audio_N = new_clip(scene)
            clip = replace(clip, video=video, audio=audio_N)
        found.append(HeldOut(HELD_OUT_SEED + index, clip, np.zeros(0, np.float32)))
    return found


def trait(held: HeldOut, clip: Clip) -> np.ndarray:
    """What is new of a scene: the mean colour of its ball [3], or the timbre of its voice [32]."""
    frames, samples = clip
    if not isinstance(held.clip.scene, BallScene):
        return timbre(samples)
    weight_FHW = ball_weight(frames) ** 2
    return np.einsum("fhw,fhwc->c", weight_FHW, frames[:, : int(FLOOR_Y)]) / max(weight_FHW.sum(), 1e-6)


def trait_means(held: list[HeldOut], pipeline: HarmonyPipeline) -> dict[str, np.ndarray]:
    """By kind of scene, as the autoencoders give it back."""
    made = [(each.clip.scene.kind, trait(each, clip)) for each, clip in round_trip(held, pipeline)]
    return {kind: np.mean([value for name, value in made if name == kind], axis=0) for kind in ("ball", "face")}


def measure(lora: Path, count: int) -> tuple[list[dict], list[tuple[str, np.ndarray, np.ndarray]]]:
    """A row a way, clip and metric, and some clips to look at. `novel` is 1 where the look or voice is nearer to that
    of the films than to the old world's."""
    rows, shown = [], []
    plain = HarmonyPipeline(load_bundle("harmony-tiny"))
    new, ever = held_out(count, new=True), held_out(count, new=False)
    old_means = trait_means([replace(each, clip=render(each.clip.scene)) for each in new], plain)
    new_means = trait_means(new, plain)
    adapted = load_bundle("harmony-tiny")
    apply_lora(adapted.transformer, lora)
    for way, pipeline in ((FILMS, plain), ("without", plain), ("with", HarmonyPipeline(adapted))):
        for group, held in ((NEW, new), (AS_EVER, ever)):
            made = round_trip(held, plain) if way == FILMS else Generated()(held, pipeline, 8, lambda *_: None)
            for place, (each, clip) in enumerate(made):
                kind, found = each.clip.scene.kind, score(each, clip)
                if group == NEW:
                    value = trait(each, clip)
                    near = [np.linalg.norm(value - means[kind]) for means in (old_means, new_means)]
                    found[f"novel_{kind}"] = float(near[1] < near[0])
                    for known in ("colour", "voice"):  # of the old world
                        found.pop(known, None)
                rows += [
                    {"way": way, "scenes": group, "seed": each.seed, "metric": name, "value": round(float(number), 5)}
                    for name, number in found.items()
                ]
                if place < 2 and way != FILMS:
                    shown.append((f"{way}: {each.clip.scene.video_caption}", *clip))
    return rows, shown


def table(rows: list[dict]) -> str:
    """Means with 95 % bootstrap intervals: of the films themselves, encoded and decoded, and without and with the
    LoRA."""
    ways = (FILMS, "without", "with")
    lines = [f"| scenes | metric | {' | '.join(ways)} |", "|---" * 5 + "|"]
    for group, metric in dict.fromkeys((row["scenes"], row["metric"]) for row in rows):
        cells = []
        for way in ways:
            key = way, group, metric
            values = [row["value"] for row in rows if (row["way"], row["scenes"], row["metric"]) == key]
            low, high = bootstrap_interval(values, 0)
            cells.append(f"{np.mean(values):.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"| {group} | {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/lora"))
    parser.add_argument("--clips", type=int, default=96, help="films of the new; as many again are as ever")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--targets", default="all")
    parser.add_argument("--scenes", type=int, default=48, help="held-out scenes of each group")
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/lora.csv"))
    values = parser.parse_args()
    values.output.mkdir(parents=True, exist_ok=True)
    lora = train(values.output, values.clips, values.steps, values.targets)
    rows, shown = measure(lora, values.scenes)
    with values.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    contact_sheet(shown).save(values.output / "clips.png")
    print(table(rows))


if __name__ == "__main__":
    main()
