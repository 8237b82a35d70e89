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
from safetensors.torch import load_file

from ..autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ..checkpoints import Bundle, load_bundle
from ..checkpoints.bundle import load_companions
from ..checkpoints.write import write_safetensors
from ..pipelines import HarmonyPipeline
from ..presets import preset
from ..toyworld import HARD, HELD_OUT_SEED
from ..training.autoencoders import AutoencoderTraining, reconstruction_report, train_video_vae
from ..training.data.toyworld import render_clips, write_toy_shards
from ..training.procedural import AUTOENCODERS, SHARDS
from ..training.state import read_average
from ..training.trainer import run
from .hard_quality import KINDS, METRICS, score_hard
from .held_out_losses import loss_rows
from .quality import Generated, HeldOut, ground_truth, held_out, read_rows, round_trip, shuffled, write_rows

AUTOENCODER_SOURCE = "harmony-tiny"
REFERENCE_SECONDS = 0.48
SMALL = {"dim": 96, "ffn_dim": 288, "num_heads": 3, "num_layers": 4, "speech": None}
APART = {"interaction": "none", "style_alignment": False, "style_pooling": "none"}
GLOBAL = APART | {"interaction": "global", "rope_alignment": "ovi", "cross_rope_scale": 1.0}
FRAMEWISE = {"style_pooling": "frame"}
JOINT_ONLY = {"kind": "split_batch", "audio_driven_share": 0.0, "video_driven_share": 0.0}
AUDIO_DRIVEN = JOINT_ONLY | {"audio_driven_share": 1.0}
EQUAL_COMPUTE = {"kind": "split_batch", "audio_driven_share": 0.125, "video_driven_share": 0.125}
SCORES, LOSSES = "scores.csv", "losses.csv"  # in a run's folder
STATES = 4  # of a run, evenly spaced, that losses are taken at

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One training run: what differs from the paper's model and objective, and how its clips are made."""

    title: str
    model: dict[str, Any] = field(default_factory=lambda: FRAMEWISE)
    objective: dict[str, Any] = field(default_factory=lambda: {"kind": "three_pass"})
    cases: tuple[str, ...] = ("joint",)


TESTED = "joint", "audio_to_video", "video_to_audio"
ROWS = {
    "global": Row("global cross-attention", GLOBAL, JOINT_ONLY),
    "framewise": Row("frame-wise, style alignment", FRAMEWISE | {"rope_alignment": "none"}, JOINT_ONLY, TESTED),
    "rope": Row("+ RoPE alignment", FRAMEWISE, JOINT_ONLY, TESTED),
    "cts": Row("+ CTS, equal joint samples", cases=(*TESTED, "joint_synccfg")),
    "cts_equal_compute": Row("+ CTS, equal compute", FRAMEWISE, EQUAL_COMPUTE, TESTED),
    "audio_driven": Row("+ RoPE alignment, audio-driven alone", FRAMEWISE, AUDIO_DRIVEN, ("audio_to_video",)),
}
CASES = {
    "joint": Generated(guided=False, kinds=KINDS),
    "joint_synccfg": Generated(kinds=KINDS),
    "audio_to_video": Generated(given="audio", guided=False, kinds=KINDS),
    "video_to_audio": Generated(given="video", guided=False, kinds=KINDS),
}
CURVES = "audio_driven", "rope", "cts"  # whose losses on the way are kept: the rows of the paper's figure 3
PARTS = {  # what a part is judged by: the row with it, and the row without
    "frame-wise interaction and style alignment": ("framewise", "global"),
    "RoPE alignment": ("rope", "framewise"),
    "CTS, equal joint samples": ("cts", "rope"),
    "CTS, equal compute": ("cts_equal_compute", "rope"),
}
SYNC_CFG = "SyncCFG, on CTS"
LOSS_METRICS = "video_loss", "audio_loss"
REFERENCES = "ground_truth", "shuffled", "round_trip"  # beside the rows in a table


@dataclass(frozen=True)
class AblationOptions:
    """How much is run: training seeds, optimiser steps and clips of each run, held-out scenes that are made and
    held-out clips that losses are taken of.

    `branch_steps` is how long the branches are trained apart, `video_steps` how long the embedded checkpoint's video
    autoencoder is trained on for the hard world's rooms.
    """

    rows: tuple[str, ...] = tuple(ROWS)
    seeds: int = 3
    steps: int = 600
    batch_size: int = 16
    clips: int = 3000
    scenes: int = 48
    loss_clips: int = 96
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
    scenes = held_out(options.scenes, REFERENCE_SECONDS, HARD, KINDS)
    score_references(branches, folder / SCORES, scenes)
    for name, seed in runs:
        progress(f"losses of {name}, seed {seed}")
        lose_run(folder / f"{name}-{seed}", name, seed, options.steps, options.loss_clips)
    for name, seed in runs:
        progress(f"clips of {name}, seed {seed}")
        score_run(folder / f"{name}-{seed}", name, seed, options.steps, scenes)
    return read_rows([folder / SCORES, *sorted(folder.glob(f"*/{LOSSES}")), *sorted(folder.glob(f"*/{SCORES}"))])


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
    made = ground_truth(scenes), shuffled(scenes), round_trip(scenes, pipeline)
    rows = []
    for name, pairs in zip(REFERENCES, made, strict=True):
        rows += _rows({"row": name, "seed": 0, "step": 0, "case": ""}, pairs)
    write_rows(kept, rows)


def lose_run(place: Path, name: str, seed: int, steps: int, clips: int) -> None:
    """A run's losses on held-out clips, kept in its folder; of the first seed at earlier states as well."""
    if (place / LOSSES).exists():
        return
    checkpoint = place / "run" / "checkpoint.safetensors"
    rows = [{"row": name, "seed": seed, "step": steps, **row} for row in loss_rows(load_bundle(checkpoint), clips)]
    if seed == 0 and name in CURVES:
        for state in sorted((place / "run").glob("state-*")):
            step = int(state.name.removeprefix("state-"))
            if step < steps:
                bundle = averaged(load_bundle(checkpoint), state)
                rows += [{"row": name, "seed": seed, "step": step, **row} for row in loss_rows(bundle, clips)]
    write_rows(place / LOSSES, rows)


def score_run(place: Path, name: str, seed: int, steps: int, scenes: Sequence[HeldOut]) -> None:
    """What the held-out scenes come out as, kept in the run's folder."""
    if (place / SCORES).exists():
        return
    pipeline = HarmonyPipeline.from_file(place / "run" / "checkpoint.safetensors")
    rows = []
    for case in ROWS[name].cases:
        where = {"row": name, "seed": seed, "step": steps, "case": case}
        rows += _rows(where, CASES[case](scenes, pipeline, 8, lambda *_: None))
    write_rows(place / SCORES, rows)


def averaged(bundle: Bundle, state: Path) -> Bundle:
    """The bundle with the averaged weights of a state in it."""
    weights = read_average(state)
    for part in ("transformer", "text_encoder"):
        own = {key.removeprefix(f"{part}."): value for key, value in weights.items() if key.startswith(f"{part}.")}
        getattr(bundle, part).load_state_dict(own, strict=False)
    return bundle


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


def differences(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each part changes, at the last step: the mean over pairs of one seed and scene, and its interval."""
    last = max(int(row["step"]) for row in rows)
    values = {
        (row["row"], row["case"], row["metric"], str(row["seed"]), str(row["scene"])): float(row["value"])
        for row in rows
        if int(row["step"]) == last
    }
    pairs = [
        (title, case, with_part, without, case) for title, (with_part, without) in PARTS.items() for case in TESTED
    ]
    pairs.append((SYNC_CFG, "joint_synccfg", "cts", "cts", "joint"))
    table = []
    for title, case, with_part, without, other in pairs:
        for metric in (*LOSS_METRICS, *METRICS):
            found: dict[str, list[float]] = {}
            for row, own_case, own_metric, seed, scene in values:
                before = without, other, metric, seed, scene
                if (row, own_case, own_metric) == (with_part, case, metric) and before in values:
                    change = values[row, case, metric, seed, scene] - values[before]
                    found.setdefault(seed, []).append(change)
            if found:
                mean, low, high = (round(each, 5) for each in interval(found))
                counts = {"seeds": len(found), "pairs": sum(map(len, found.values()))}
                where = {"part": title, "case": case, "metric": metric}
                table.append(where | counts | {"mean": mean, "low": low, "high": high})
    return table


def markdown(lines: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]]) -> str:
    """A table of every case's last step, and one of what each part changes."""
    last = max(int(line["step"]) for line in lines)
    texts = []
    for case in dict.fromkeys(line["case"] for line in lines if line["case"]):
        here = [line for line in lines if line["case"] == case and int(line["step"]) == last]
        beside = [line for line in lines if line["case"] == ""]
        for metrics, shown in ((LOSS_METRICS, here), (METRICS, beside + here)):
            if any(line["metric"] in metrics for line in here):
                cells = {(line["row"], line["metric"]): _cell(line) for line in shown}
                titles = {name: ROWS[name].title if name in ROWS else name for name in (*REFERENCES, *ROWS)}
                texts.append(_table(case, titles, metrics, cells))
    for metrics in (LOSS_METRICS, METRICS):
        cells = {(f"{each['part']}: {each['case']}", each["metric"]): _cell(each) for each in changes}
        titles = {name: name for name, metric in cells if metric in metrics}
        if titles:
            texts.append(_table("change", titles, metrics, cells))
    return "\n\n".join(texts)


def _cell(line: dict[str, Any]) -> str:
    return f"{float(line['mean']):.3f} ({float(line['low']):.3f} to {float(line['high']):.3f})"


def _table(corner: str, titles: dict[str, str], metrics: Sequence[str], cells: dict[tuple[str, str], str]) -> str:
    text = [f"| {corner} | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for name, title in titles.items():
        found = [cells.get((name, metric), "") for metric in metrics]
        if any(found):
            text.append(f"| {title} | " + " | ".join(found) + " |")
    return "\n".join(text)
