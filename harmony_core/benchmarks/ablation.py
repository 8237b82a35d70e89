"""The parts of the method, one by one: the paper's ablation in miniature, on the hard procedural world.

As in the paper, a picture and a sound branch are trained apart first; every row then starts from these with new
interactions of its own, and is a training run from a config that stays in its folder. Rows see the same clips and the
same number of *joint* samples; Cross-Task Synergy (CTS) sees its driven samples beside them, and once more in a run of
equal compute, in which some of a batch's clips are driven instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ..autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ..checkpoints.bundle import load_companions
from ..checkpoints.write import write_safetensors
from ..pipelines import HarmonyPipeline
from ..presets import preset
from ..toyworld import HARD, HELD_OUT_SEED
from ..training.autoencoders import AutoencoderTraining, reconstruction_report, train_video_vae
from ..training.data.toyworld import render_clips, write_toy_shards
from ..training.procedural import AUTOENCODERS, SHARDS
from ..training.trainer import run
from .hard_quality import KINDS, METRICS, held_out_hard, score_hard, shuffled_hard
from .quality import Generated, HeldOut, ground_truth, read_rows, round_trip, write_rows

AUTOENCODER_SOURCE = "harmony-tiny"
REFERENCE_SECONDS = 0.48
SMALL = {"dim": 96, "ffn_dim": 288, "num_heads": 3, "num_layers": 4, "speech": None}
APART = {"interaction": "none", "style_alignment": False, "style_pooling": "none"}
GLOBAL = APART | {"interaction": "global", "rope_alignment": "ovi", "cross_rope_scale": 1.0}
FRAMEWISE = {"style_pooling": "frame"}
JOINT_ONLY = {"kind": "split_batch", "audio_driven_share": 0.0, "video_driven_share": 0.0}
AUDIO_DRIVEN = JOINT_ONLY | {"audio_driven_share": 1.0}
EQUAL_COMPUTE = {"kind": "split_batch", "audio_driven_share": 0.125, "video_driven_share": 0.125}
SCORES = "scores.csv"  # in a run's folder
STATES = 4  # of a run, evenly spaced, that sync is measured at

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One training run: what differs from the paper's model and objective, and how its clips are made."""

    title: str
    model: dict[str, Any] = field(default_factory=lambda: FRAMEWISE)
    objective: dict[str, Any] = field(default_factory=lambda: {"kind": "three_pass"})
    cases: tuple[str, ...] = ("joint", "audio_to_video")


EVERY_CASE = "joint", "joint_synccfg", "audio_to_video", "video_to_audio"
ROWS = {
    "global": Row("global cross-attention", GLOBAL, JOINT_ONLY),
    "framewise": Row("frame-wise, style alignment", FRAMEWISE | {"rope_alignment": "none"}, JOINT_ONLY),
    "rope": Row("+ RoPE alignment", FRAMEWISE, JOINT_ONLY, ("joint", "audio_to_video", "video_to_audio")),
    "cts": Row("+ CTS, equal joint samples", cases=EVERY_CASE),
    "cts_equal_compute": Row("+ CTS, equal compute", FRAMEWISE, EQUAL_COMPUTE, ("joint", "video_to_audio")),
    "audio_driven": Row("+ RoPE alignment, audio-driven alone", FRAMEWISE, AUDIO_DRIVEN, ("audio_to_video",)),
}
CASES = {
    "joint": Generated(guided=False, kinds=KINDS),
    "joint_synccfg": Generated(kinds=KINDS),
    "audio_to_video": Generated(given="audio", guided=False, kinds=KINDS),
    "video_to_audio": Generated(given="video", guided=False, kinds=KINDS),
}
# Sync against training step, of the first seed: the paper's figure 3.
CURVES = {"audio_driven": ("audio_to_video",), "rope": ("joint",), "cts": ("joint", "audio_to_video")}
REFERENCES = "ground_truth", "shuffled", "round_trip"  # beside the rows in a table


@dataclass(frozen=True)
class AblationOptions:
    """How much is run: training seeds, optimiser steps and clips of each run, and held-out scenes.

    `branch_steps` is how long the branches are trained apart, `video_steps` how long the embedded checkpoint's video
    autoencoder is trained on for the hard world's rooms.
    """

    rows: tuple[str, ...] = tuple(ROWS)
    seeds: int = 3
    steps: int = 600
    batch_size: int = 16
    clips: int = 3000
    scenes: int = 48
    branch_steps: int = 2000
    video_steps: int = 600

    def __post_init__(self) -> None:
        unknown = [name for name in self.rows if name not in ROWS]
        if unknown:
            raise ValueError(f"Unknown row {unknown[0]!r}. Rows: {', '.join(ROWS)}.")
        for name, value in vars(self).items():
            if name != "rows" and value < 1:
                raise ValueError(f"{name} is {value}, but must be 1 or more.")
        if self.scenes < 2 * len(KINDS):
            raise ValueError(f"scenes is {self.scenes}, but a shuffled pair of each kind needs {2 * len(KINDS)}.")


def run_ablation(folder: Path, options: AblationOptions, progress: Progress) -> list[dict[str, Any]]:
    """Train, then score, what is not there yet. Returns a row a run, step, case, scene and metric of all that the
    folder holds."""
    folder = folder.resolve()
    branches = train_branches(folder, options, progress)
    runs = [(name, seed) for seed in range(options.seeds) for name in options.rows]
    for name, seed in runs:
        progress(f"{name}, seed {seed}")
        train_row(folder, name, seed, branches, options)
    scenes = held_out_hard(options.scenes, REFERENCE_SECONDS)
    score_references(branches, folder / SCORES, scenes)
    for name, seed in runs:
        progress(f"scoring {name}, seed {seed}")
        score_run(folder / f"{name}-{seed}", name, seed, options.steps, scenes)
    return read_rows([folder / SCORES, *sorted(folder.glob(f"*/{SCORES}"))])


def train_branches(folder: Path, options: AblationOptions, progress: Progress) -> Path:
    """The checkpoint that every row starts from: both branches, trained on the same clips without meeting."""
    import yaml

    place = folder / "branches"
    output = place / "run"
    if not (output / "checkpoint.safetensors").exists():
        prepare_clips(folder, options, progress)
        output.mkdir(parents=True, exist_ok=True)
        for name in (SHARDS, *AUTOENCODERS):
            if not (output / name).exists():
                (output / name).symlink_to(folder / name)
        progress("branches")
        settings = {
            "preset": "harmony-tiny",
            "model": SMALL | APART,
            "steps": options.branch_steps,
            "data": {"world": HARD, "clips": options.clips, "reference_seconds": REFERENCE_SECONDS},
            **_common(options, 0, JOINT_ONLY, options.branch_steps),
        }
        (place / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        run(place / "config.yaml", output, resume=True)
    return output / "checkpoint.safetensors"


def prepare_clips(folder: Path, options: AblationOptions, progress: Progress) -> None:
    """The embedded checkpoint's autoencoders, that of the video trained on, and the clips that they encode."""
    from accelerate import PartialState

    folder.mkdir(parents=True, exist_ok=True)
    _, video_vae, audio_vae, text_encoder = load_companions(AUTOENCODER_SOURCE)
    files = [folder / name for name in AUTOENCODERS]
    if not all(file.exists() for file in files):
        progress("autoencoders")
        _train_on(video_vae, audio_vae, folder, options)
        for file, part in zip(files, (video_vae, audio_vae), strict=True):
            # as the checkpoint of the branches stores them, so that these are the ones that encoded the clips
            write_safetensors(file, {name: value.half().float() for name, value in part.state_dict().items()})
    for file, part in zip(files, (video_vae, audio_vae), strict=True):
        part.load_state_dict(load_file(file))
    progress("clips")
    config = preset("harmony-tiny").with_(**SMALL, **FRAMEWISE)
    parts = video_vae, audio_vae, text_encoder, PartialState(cpu=True)
    write_toy_shards(folder / SHARDS, options.clips, REFERENCE_SECONDS, config, *parts, lambda *_: None, HARD)


def _train_on(video_vae: TinyVideoVAE, audio_vae: TinyAudioVAE, folder: Path, options: AblationOptions) -> None:
    """Teach the video autoencoder rooms, and note how well held-out clips survive both."""
    video_vae.requires_grad_(True)
    clips = render_clips(min(options.clips, 400), 0, REFERENCE_SECONDS, lambda *_: None, HARD)
    train_video_vae(AutoencoderTraining(video_steps=options.video_steps), clips.videos, video_vae)
    held = render_clips(min(options.clips, 32), HELD_OUT_SEED, REFERENCE_SECONDS, lambda *_: None, HARD)
    report = reconstruction_report(video_vae, audio_vae, held.videos, held.sounds.astype(np.float32))
    (folder / "autoencoders.json").write_text(json.dumps(report, indent=1))


def train_row(folder: Path, name: str, seed: int, branches: Path, options: AblationOptions) -> None:
    """Train one run if it is not there; one that was stopped goes on."""
    import yaml

    row, place = ROWS[name], folder / f"{name}-{seed}"
    if (place / "run" / "checkpoint.safetensors").exists():
        return
    place.mkdir(exist_ok=True)
    settings = {
        "preset": "harmony-tiny",
        "model": SMALL | row.model,
        "start": {"model": str(branches)},
        "steps": options.steps,
        "data": {"shards": str(folder / SHARDS)},
        "keep": STATES,
        **_common(options, seed, row.objective, options.steps),
    }
    (place / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    run(place / "config.yaml", place / "run", resume=True)


def _common(options: AblationOptions, seed: int, objective: dict[str, Any], steps: int) -> dict[str, Any]:
    return {
        "batch_size": options.batch_size,
        "seed": seed,
        "objective": {"shift": 3.0, **objective},
        "optimizer": {"decay_share": 0.5, "ema": 0.98},
        "log_every": 50,
        "save_every": max(1, steps // STATES),
    }


def score_references(branches: Path, kept: Path, scenes: Sequence[HeldOut]) -> None:
    """What ground truth, chance and the autoencoders' round trip score."""
    if kept.exists():
        return
    pipeline = HarmonyPipeline.from_file(branches)
    made = ground_truth(scenes), shuffled_hard(scenes), round_trip(scenes, pipeline)
    rows = []
    for name, pairs in zip(REFERENCES, made, strict=True):
        rows += _rows({"row": name, "seed": 0, "step": 0, "case": ""}, pairs)
    write_rows(kept, rows)


def score_run(place: Path, name: str, seed: int, steps: int, scenes: Sequence[HeldOut]) -> None:
    """What the held-out scenes come out as, kept in the run's folder; of the first seed at earlier states as well."""
    if (place / SCORES).exists():
        return
    checkpoint = place / "run" / "checkpoint.safetensors"
    rows = _score_cases(HarmonyPipeline.from_file(checkpoint), name, seed, steps, ROWS[name].cases, scenes)
    if seed == 0 and name in CURVES:
        pipeline = HarmonyPipeline.from_file(checkpoint)
        for state in sorted((place / "run").glob("state-*")):
            step = int(state.name.removeprefix("state-"))
            if step < steps:
                rows += _score_cases(averaged(pipeline, state), name, seed, step, CURVES[name], scenes)
    write_rows(place / SCORES, rows)


def averaged(pipeline: HarmonyPipeline, state: Path) -> HarmonyPipeline:
    """The pipeline with the averaged weights of a state in it."""
    weights = torch.load(state / "custom_checkpoint_1.pkl", weights_only=True)  # the trainer registers it second
    for part in ("transformer", "text_encoder"):
        own = {key.removeprefix(f"{part}."): value for key, value in weights.items() if key.startswith(f"{part}.")}
        getattr(pipeline, part).load_state_dict(own, strict=False)
    return pipeline


def _score_cases(
    pipeline: HarmonyPipeline, name: str, seed: int, step: int, cases: Sequence[str], scenes: Sequence[HeldOut]
) -> list[dict[str, Any]]:
    rows = []
    for case in cases:
        made = CASES[case](scenes, pipeline, 8, lambda *_: None)
        rows += _rows({"row": name, "seed": seed, "step": step, "case": case}, made)
    return rows


def _rows(where: dict[str, Any], made: Any) -> Iterator[dict[str, Any]]:
    for scene, clip in made:
        for metric, value in score_hard(scene, clip).items():
            yield where | {"scene": scene.seed, "metric": metric, "value": round(float(value), 5)}


def interval(values: dict[str, list[float]]) -> tuple[float, float, float]:
    """Mean, and the 95 % bootstrap interval of values by training seed: seeds are drawn again, then their scenes."""
    rng = np.random.default_rng(0)
    groups = [np.array(each) for each in values.values()]
    means = []
    for _ in range(2000):
        drawn = [groups[index] for index in rng.integers(len(groups), size=len(groups))]
        means.append(np.mean([rng.choice(each, len(each)).mean() for each in drawn]))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(np.mean([each.mean() for each in groups])), float(low), float(high)


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every row, step, case and metric: how many seeds and clips, the mean and its interval."""
    groups: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for row in rows:
        key = tuple(str(row[name]) for name in ("row", "step", "case", "metric"))
        groups.setdefault(key, {}).setdefault(str(row["seed"]), []).append(float(row["value"]))
    table = []
    for key, values in groups.items():
        mean, low, high = (round(each, 4) for each in interval(values))
        line = dict(zip(("row", "step", "case", "metric"), key, strict=True))
        counts = {"seeds": len(values), "clips": sum(map(len, values.values()))}
        table.append(line | counts | {"mean": mean, "low": low, "high": high})
    return table


def markdown(lines: Sequence[dict[str, Any]], case: str) -> str:
    """Last steps of a case, and what they are held against: a row a run, a column a metric."""
    last = max(int(line["step"]) for line in lines)
    cells = {
        (line["row"], line["metric"]): line
        for line in lines
        if line["case"] == "" or (line["case"], int(line["step"])) == (case, last)
    }
    shown = [name for name in (*REFERENCES, *ROWS) if any(row == name for row, _ in cells)]
    text = ["| | seeds | " + " | ".join(METRICS) + " |", "|---" * (len(METRICS) + 2) + "|"]
    for name in shown:
        title = ROWS[name].title if name in ROWS else name.replace("_", " ")
        found = [cells.get((name, metric)) for metric in METRICS]
        words = [
            "" if each is None else f"{each['mean']:.3f} ({each['low']:.3f} to {each['high']:.3f})" for each in found
        ]
        seeds = max(each["seeds"] for each in found if each is not None)
        text.append(f"| {title} | {seeds if name in ROWS else ''} | " + " | ".join(words) + " |")
    return "\n".join(text)
