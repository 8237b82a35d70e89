"""The parts of the method, one by one: the paper's ablation in miniature, on a hard procedural world.

As in the paper, a picture and a sound branch are trained apart first; every row then starts from these with new
interactions of its own, and is a training run from a config that stays in its folder. Rows see the same clips and the
same number of *joint* samples; Cross-Task Synergy (CTS) sees its driven samples beside them, and once more in a run of
equal compute, in which some of a batch's clips are driven instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
from ..toyworld import HARD, HELD_OUT_SEED, UNSEEN
from ..training.autoencoders import AutoencoderTraining, reconstruction_report, train_video_vae
from ..training.data.toyworld import render_clips, write_toy_shards
from ..training.procedural import AUTOENCODERS, SHARDS
from ..training.state import read_average, saved_states
from ..training.trainer import run
from .ablation_rows import APART, CASES, CURVES, FRAMEWISE, JOINT_ONLY, LADDER, REFERENCES, ROWS, SMALL, STEPS_CASE
from .hard_quality import KINDS, score_hard
from .held_out_losses import loss_rows
from .quality import HeldOut, ground_truth, held_out, read_rows, round_trip, shuffled, write_rows

AUTOENCODER_SOURCE = "harmony-tiny"
REFERENCE_SECONDS = 0.48
SCORES, LOSSES = "scores.csv", "losses.csv"  # in a run's folder
STATES = 4  # of a run, evenly spaced, that are measured

Progress = Callable[[str], None]


@dataclass(frozen=True)
class AblationOptions:
    """How much is run: training seeds, optimiser steps and clips of each run, held-out scenes that are made and
    held-out clips that losses are taken of.

    `world` is the hard one, or the one that also has a ball outside the picture.
    `branch_steps` is how long the branches are trained apart, `video_steps` how long the embedded checkpoint's video
    autoencoder is trained on for the hard world's rooms.
    """

    rows: tuple[str, ...] = tuple(LADDER)
    seeds: int = 3
    steps: int = 600
    batch_size: int = 16
    clips: int = 3000
    scenes: int = 48
    loss_clips: int = 96
    branch_steps: int = 2000
    video_steps: int = 600
    world: str = HARD

    def __post_init__(self) -> None:
        unknown = [name for name in self.rows if name not in ROWS]
        if unknown:
            raise ValueError(f"Unknown row {unknown[0]!r}. Rows: {', '.join(ROWS)}.")
        for name, value in vars(self).items():
            if name not in ("rows", "world") and value < 1:
                raise ValueError(f"{name} is {value}, but must be 1 or more.")
        if self.world not in (HARD, UNSEEN):
            raise ValueError(f"world is {self.world!r}, but must be {HARD} or {UNSEEN}.")
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
    scenes = held_out(options.scenes, REFERENCE_SECONDS, options.world, KINDS)
    score_references(branches, folder / SCORES, scenes)
    for name, seed in runs:
        progress(f"losses of {name}, seed {seed}")
        lose_run(folder / f"{name}-{seed}", name, seed, options)
    for name, seed in runs:
        progress(f"clips of {name}, seed {seed}")
        score_run(folder / f"{name}-{seed}", name, seed, ROWS[name].steps(options.steps), scenes)
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
            "data": {"world": options.world, "clips": options.clips, "reference_seconds": REFERENCE_SECONDS},
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
    write_toy_shards(folder / SHARDS, options.clips, REFERENCE_SECONDS, config, *parts, lambda *_: None, options.world)


def _train_on(video_vae: TinyVideoVAE, audio_vae: TinyAudioVAE, folder: Path, options: AblationOptions) -> None:
    """Teach the video autoencoder rooms, and note how well held-out clips survive both."""
    video_vae.requires_grad_(True)
    clips = render_clips(min(options.clips, 400), 0, REFERENCE_SECONDS, lambda *_: None, options.world)
    train_video_vae(AutoencoderTraining(video_steps=options.video_steps), clips.videos, video_vae)
    held = render_clips(min(options.clips, 32), HELD_OUT_SEED, REFERENCE_SECONDS, lambda *_: None, options.world)
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
        "steps": row.steps(options.steps),
        "data": {"shards": str(folder / SHARDS)},
        "keep": STATES,
        **_common(options, seed, row.objective, row.steps(options.steps)),
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


def lose_run(place: Path, name: str, seed: int, options: AblationOptions) -> None:
    """A run's losses on held-out clips, kept in its folder; of the first seed's CURVES at earlier states as well."""
    if (place / LOSSES).exists():
        return
    rows = []
    for step, bundle in _states(place, name, seed, ROWS[name].steps(options.steps)):
        where = {"row": name, "seed": seed, "step": step}
        rows += [where | row for row in loss_rows(bundle, options.loss_clips, options.world)]
    write_rows(place / LOSSES, rows)


def score_run(place: Path, name: str, seed: int, steps: int, scenes: Sequence[HeldOut]) -> None:
    """What the held-out scenes come out as, kept in the run's folder; of CURVES with the sound given on the way too."""
    if (place / SCORES).exists():
        return
    rows = []
    for step, bundle in _states(place, name, seed, steps):
        pipeline = HarmonyPipeline(bundle)
        for case in ROWS[name].cases if step == steps else (STEPS_CASE,):
            where = {"row": name, "seed": seed, "step": step, "case": case}
            rows += _rows(where, CASES[case](scenes, pipeline, 8, lambda *_: None))
    write_rows(place / SCORES, rows)


def _states(place: Path, name: str, seed: int, steps: int) -> Iterator[tuple[int, Bundle]]:
    """A run's result and its step; of the first seed of CURVES then its earlier states."""
    checkpoint = place / "run" / "checkpoint.safetensors"
    yield steps, load_bundle(checkpoint)
    if seed == 0 and name in CURVES:
        for step, state in saved_states(place / "run").items():
            if step < steps:
                yield step, averaged(load_bundle(checkpoint), state)


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
