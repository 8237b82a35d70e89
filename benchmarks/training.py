"""What a training step costs by its objective, side by side in one process: `python -m benchmarks.training -o FILE`.

Forward and backward of the same clips, of noise, without the optimiser. Ratios are to the joint pass alone of the same
size. `waiting_share` is how long a run of the embedded checkpoint's recipe waits for its clips, by its own log.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import harmony_core
from harmony_core.benchmarks.timing import Meter, append_csv, machine, take_turns
from harmony_core.diffusion.latents import AVLatents
from harmony_core.strict import build
from harmony_core.training.config import TrainingConfig
from harmony_core.training.losses import objective_loss, row_losses
from harmony_core.training.plan import make_plan, own_clip
from harmony_core.training.start import Models, TrainedModel, choose_trained, fresh
from harmony_core.training.tasks import draw_levels, noise_rows, task_rows
from harmony_core.training.trainer import run

SIZES = {  # of the transformer, on two seconds of 64x64
    "harmony-tiny": {},
    "width 512": {"dim": 512, "ffn_dim": 1536, "num_heads": 8},
}
JOINT = {"kind": "split_batch", "audio_driven_share": 0.0, "video_driven_share": 0.0}
THREE = {"kind": "three_pass"}
STEPS: dict[str, dict[str, Any]] = {
    "joint": {"objective": JOINT},
    "split_batch": {"objective": JOINT | {"audio_driven_share": 0.25, "video_driven_share": 0.25}},
    "three_pass": {"objective": THREE},
    "three_pass, stopped drivers": {"objective": THREE | {"stop_drivers": True}},
    "joint, activation checkpointing": {"objective": JOINT, "activation_checkpointing": True},
}


def config_of(size: str, batch: int, changes: dict[str, Any]) -> TrainingConfig:
    values = {"preset": "harmony-tiny", "model": SIZES[size], "steps": 1, "batch_size": batch}
    return build(TrainingConfig, values | changes, "benchmark")


def one_step(model: TrainedModel, config: TrainingConfig) -> None:
    """Forward and backward of a batch of noise."""
    model.zero_grad()
    shape, size, count = own_clip(model.transformer.config, config), model.transformer.config, config.batch_size
    generator = torch.Generator().manual_seed(0)
    clips = AVLatents(*(torch.randn(count, *each, generator=generator) for each in (shape.video, shape.audio)))
    rows = task_rows([(True, True)] * count, config.objective)
    levels = draw_levels(rows, shape.video[1], shape.audio[1], config.objective, generator)
    clean = clips.map(lambda x: x[[row.clip for row in rows]])
    batch = noise_rows(clean, rows, levels, range(len(rows)), range(len(rows)))
    text = torch.randn(len(rows), size.text_len, size.text_dim, generator=generator)
    transcript = torch.zeros(len(rows), size.speech.max_len, dtype=torch.long) if size.speech else None
    reference = torch.randn(len(rows), size.audio_channels, shape.reference, generator=generator)
    losses = row_losses(model(batch, text, text, transcript, reference), batch)
    objective_loss(losses, rows, config.objective, rows)[0].backward()


def steps_of(size: str, batch: int) -> dict[str, Callable[[], None]]:
    ways = {}
    for name, changes in STEPS.items():
        config = config_of(size, batch, changes)
        model = choose_trained(Models(config.transformer, fresh(config)), config, ids=False)
        ways[name] = partial(one_step, model, config)
    return ways


def compare(size: str, batch: int, repeats: int) -> list[dict[str, Any]]:
    """A row a kind of step."""
    found = take_turns(steps_of(size, batch), repeats, Meter(torch.device("cpu")))
    flops = {name: make_plan(config_of(size, batch, changes)).step_flops for name, changes in STEPS.items()}
    rows = []
    for name, measured in found.items():
        rows.append(
            {
                "size": size,
                "clips": batch,
                "step": name,
                "seconds": measured["seconds_p50"],
                "seconds_ratio": round(measured["seconds_p50"] / found["joint"]["seconds_p50"], 3),
                "memory_ratio": round(measured["peak_mb"] / found["joint"]["peak_mb"], 3),
                "flops_ratio": round(flops[name] / flops["joint"], 3),
                "repeats": repeats,
            }
        )
    return rows


def waiting_share(clips: int, steps: int) -> float:
    """Of a short run of the embedded checkpoint's recipe."""
    path = Path(harmony_core.__file__).parent / "training" / "configs" / "tiny_longer.yaml"
    changes = ("start.model=harmony-tiny", f"steps={steps}", f"data.clips={clips}", f"log_every={steps}")
    with tempfile.TemporaryDirectory() as name:
        run(path, Path(name) / "run", resume=False, overrides=changes)
        return json.loads((Path(name) / "run" / "log.jsonl").read_text().splitlines()[-1])["waiting_share"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=4, help="of a step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", "-o", type=Path, required=True, help="CSV to add to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for size in SIZES for row in compare(size, options.clips, options.repeats)]
    share = waiting_share(clips=64, steps=20)
    for row in rows:
        row["waiting_share"] = round(share, 4) if (row["size"], row["step"]) == ("harmony-tiny", "split_batch") else ""
    append_csv(options.output, [row | machine(torch.device("cpu")) for row in rows])


if __name__ == "__main__":
    main()
