"""The parts of the method, one by one: the paper's ablation in miniature, on the procedural world.

Every row is a training run of its own from a config that stays in its folder, with the same clips, autoencoders, batch
and first weights' seed. Rows see the same number of *joint* samples; Cross-Task Synergy (CTS) sees its driven samples
beside them, and once more in a run of equal compute, in which some of the clips of a batch are driven instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoints.bundle import load_companions
from ..checkpoints.write import write_safetensors
from ..pipelines import HarmonyPipeline
from ..presets import preset
from ..training.data.toyworld import write_toy_shards
from ..training.procedural import AUTOENCODERS, SHARDS
from ..training.trainer import run
from .quality import Generated, HeldOut, bootstrap_interval, held_out, score

AUTOENCODER_SOURCE = "harmony-tiny"
SMALL = {"dim": 96, "ffn_dim": 288, "num_heads": 3, "num_layers": 4, "style_pooling": "frame"}
GLOBAL = {
    "interaction": "global",
    "rope_alignment": "ovi",
    "cross_rope_scale": 1.0,
    "speech": None,
    "style_alignment": False,
    "style_pooling": "none",
}
JOINT_ONLY = {"kind": "split_batch", "audio_driven_share": 0.0, "video_driven_share": 0.0}
EQUAL_COMPUTE = {"kind": "split_batch", "audio_driven_share": 0.125, "video_driven_share": 0.125}
METRICS = ("mean_abs_lag_s", "within_one_frame", "iou", "mouth_r", "colour", "impact_sound", "shirt")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One training run: what differs from the paper's model and objective, and how its clips are made."""

    title: str
    model: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=lambda: {"kind": "three_pass"})
    cases: tuple[str, ...] = ("unguided",)


ROWS = {
    "global": Row("global cross-attention, joint training alone", GLOBAL, JOINT_ONLY),
    "framewise": Row("+ frame-wise interaction and style alignment", {"rope_alignment": "none"}, JOINT_ONLY),
    "rope": Row("+ RoPE alignment", {}, JOINT_ONLY),
    "cts": Row("+ CTS, equal joint samples", cases=("unguided", "guided")),
    "cts_equal_compute": Row("+ CTS, equal compute", {}, EQUAL_COMPUTE, ("unguided", "guided")),
}
CASES = {"unguided": Generated(guided=False), "guided": Generated()}  # the second is the row "+ SyncCFG"


@dataclass(frozen=True)
class AblationOptions:
    """How much is run: training seeds, optimiser steps and clips of each run, and held-out scenes."""

    rows: tuple[str, ...] = tuple(ROWS)
    seeds: int = 3
    steps: int = 600
    batch_size: int = 16
    clips: int = 3000
    scenes: int = 48

    def __post_init__(self) -> None:
        unknown = [name for name in self.rows if name not in ROWS]
        if unknown:
            raise ValueError(f"Unknown row {unknown[0]!r}. Rows: {', '.join(ROWS)}.")
        for name in ("seeds", "steps", "batch_size", "clips", "scenes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be 1 or more.")


def run_ablation(folder: Path, options: AblationOptions, progress: Progress) -> list[dict[str, Any]]:
    """Train what is not trained yet, and score all of it. Returns a row a run, case, scene and metric."""
    scenes = held_out(options.scenes, reference_seconds=0.48)
    found = []
    for seed in range(options.seeds):
        for name in options.rows:
            progress(f"{name}, seed {seed}")
            checkpoint = train_row(folder, name, seed, options)
            found += list(score_row(name, seed, checkpoint, scenes))
    return found


def train_row(folder: Path, name: str, seed: int, options: AblationOptions) -> Path:
    """The checkpoint of one run, trained if it is not there; one that was stopped goes on."""
    import yaml

    row, place = ROWS[name], folder / f"{name}-{seed}"
    output = place / "run"
    if not (output / "checkpoint.safetensors").exists():
        model = SMALL | row.model
        prepare_shared(folder, output, reads_transcripts="speech" not in model, options=options)
        config = place / "config.yaml"
        config.write_text(yaml.safe_dump(settings_of(row, seed, model, options), sort_keys=False))
        run(config, output, resume=True)
    return output / "checkpoint.safetensors"


def settings_of(row: Row, seed: int, model: dict[str, Any], options: AblationOptions) -> dict[str, Any]:
    """The training config of a run."""
    return {
        "preset": "harmony-tiny",
        "model": model,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "seed": seed,
        "data": {"clips": options.clips},
        "objective": {"shift": 3.0, **row.objective},
        "optimizer": {"decay_share": 0.5, "ema": 0.99},
        "log_every": 50,
        "save_every": max(1, options.steps // 4),
    }


def prepare_shared(folder: Path, output: Path, reads_transcripts: bool, options: AblationOptions) -> None:
    """The same autoencoders and clips for every run: the embedded checkpoint's, encoded once for models that read
    transcripts and once for those that do not."""
    from accelerate import PartialState

    shared = folder / ("with_transcripts" if reads_transcripts else "without_transcripts")
    _, video_vae, audio_vae, text_encoder = load_companions(AUTOENCODER_SOURCE)
    config = preset("harmony-tiny").with_(**(SMALL if reads_transcripts else SMALL | GLOBAL))
    parts = video_vae, audio_vae, text_encoder
    write_toy_shards(shared, options.clips, 0.48, config, *parts, PartialState(cpu=True), lambda *_: None)
    output.mkdir(parents=True, exist_ok=True)
    if not (output / SHARDS).exists():
        (output / SHARDS).symlink_to(shared.resolve())
    for name, part in zip(AUTOENCODERS, (video_vae, audio_vae), strict=True):
        write_safetensors(output / name, part.state_dict())


def score_row(name: str, seed: int, checkpoint: Path, scenes: Sequence[HeldOut]) -> Iterator[dict[str, Any]]:
    """What the held-out scenes come out as."""
    pipeline = HarmonyPipeline.from_file(checkpoint)
    for case in ROWS[name].cases:
        for scene, clip in CASES[case](scenes, pipeline, 8, lambda *_: None):
            for metric, value in score(scene, clip).items():
                if metric in METRICS:
                    row = {"row": name, "seed": seed, "case": case, "scene": scene.seed, "metric": metric}
                    yield row | {"value": round(float(value), 5)}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Means over seeds and scenes, with 95 % bootstrap intervals over both together."""
    lines = ["| row | " + " | ".join(METRICS) + " |", "|---" * (len(METRICS) + 1) + "|"]
    for name, case in dict.fromkeys((row["row"], row["case"]) for row in rows):
        cells = []
        for metric in METRICS:
            key = name, case, metric
            values = [float(row["value"]) for row in rows if (row["row"], row["case"], row["metric"]) == key]
            low, high = bootstrap_interval(values, 0)
            cells.append(f"{sum(values) / len(values):.3f} ({low:.3f} to {high:.3f})")
        title = ROWS[name].title + (", SyncCFG" if case == "guided" else "")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
