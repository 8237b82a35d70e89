"""The smallest run of the procedural world, for several files."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

SMALL = {
    "preset": "harmony-tiny",
    "steps": 6,
    "batch_size": 4,
    "model": {"dim": 48, "ffn_dim": 64, "num_heads": 4, "num_layers": 2},
    "data": {"clips": 6, "held_out": 2},
    "autoencoders": {"video_steps": 2, "video_batch": 4, "audio_steps": 2, "audio_batch": 2, "clips": 4},
    "objective": {"kind": "split_batch", "audio_driven_share": 0.25, "video_driven_share": 0.25},
    "optimizer": {"warmup_steps": 1},
    "log_every": 2,
    "save_every": 3,
}


def write(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump(SMALL | changes))
    return path


def prepared(finished: Path, folder: Path) -> Path:
    """A folder with the autoencoders and clips of the finished run."""
    folder.mkdir()
    for name in ("video_vae.safetensors", "audio_vae.safetensors"):
        (folder / name).write_bytes((finished / "run" / name).read_bytes())
    shutil.copytree(finished / "run" / "shards", folder / "shards")
    return folder
