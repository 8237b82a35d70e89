"""How fast a process reads encoded clips, at the shapes of harmony-5b's: `python -m benchmarks.training_data -o FILE`.

Clips of 121 frames of 704x1280 with a hundred tokens of text are made of noise. `cold` is after the files were dropped
from the page cache, `warm` when they are in it. Rates are of bytes as they are stored; checksums are held, and
`batches` are float32 as a training step takes them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from harmony_core.benchmarks.timing import append_csv, machine
from harmony_core.geometry import ClipGeometry
from harmony_core.presets import preset
from harmony_core.training.data.buckets import bucket_name
from harmony_core.training.data.loader import Batches
from harmony_core.training.data.shards import Entry, Settings, Shards
from harmony_core.training.data.writer import ShardWriter, begin, finish

CONFIG = preset("harmony-5b")
GEOMETRY = ClipGeometry.from_frames(121, CONFIG.fps, 704, 1280, CONFIG)
TOKENS = 100


def make_shards(folder: Path, count: int) -> Shards:
    settings = Settings(
        source="noise",
        video_autoencoder="",
        audio_autoencoder="",
        text_encoder="",
        text="features",
        text_len=CONFIG.text_len,
        transcript_len=CONFIG.speech.max_len,
        video_channels=CONFIG.video_channels,
        audio_channels=CONFIG.audio_channels,
        sample_rate=CONFIG.sample_rate,
        audio_latent_rate=CONFIG.audio_latent_rate,
        temporal_stride=CONFIG.temporal_stride,
        patch_size=CONFIG.patch_size,
        buckets=(),
    )
    begin(folder, settings)
    writer, rows = ShardWriter(folder, rank=0), {}
    for number in range(count):
        tensors = {
            "video": torch.randn(GEOMETRY.video_shape(1, CONFIG.video_channels)[1:]).half(),
            "audio": torch.randn(GEOMETRY.audio_shape(1, CONFIG.audio_channels)[1:]).half(),
            "text": torch.randn(TOKENS, CONFIG.text_dim).bfloat16(),
            "audio_text": torch.randn(TOKENS, CONFIG.text_dim).bfloat16(),
            "transcript": torch.zeros(CONFIG.speech.max_len, dtype=torch.long),
        }
        entry = Entry(
            id=f"clip {number}",
            row=f"{number:016x}",
            shard="",
            shapes={},
            bucket=bucket_name(GEOMETRY, has_video=True),
            frames=GEOMETRY.num_frames,
            audio_latents=GEOMETRY.num_audio_latents,
            duration=GEOMETRY.duration_s,
            start=0.0,
            end=GEOMETRY.duration_s,
            checksum="",
        )
        writer.add(entry, tensors)
        rows[entry.id] = entry.row
    writer.flush()
    finish(folder, rows)
    return Shards(folder)


def drop_from_cache(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rate(folder: Path, read: Callable[[Shards], object]) -> float:
    """MB a second of all clips, by a process that has opened none of them."""
    size = sum(path.stat().st_size for path in folder.rglob("shards/*.safetensors"))
    shards, start = Shards(folder), time.perf_counter()
    read(shards)
    return size / 1e6 / (time.perf_counter() - start)


def clips(shards: Shards) -> None:
    for index in torch.randperm(len(shards)).tolist():
        _ = shards[index]


def batches(workers: int) -> Callable[[Shards], None]:
    def read(shards: Shards) -> None:
        found = Batches(shards, batch_size=2)
        for batch in found.loader(0, found.steps_per_epoch, workers):
            assert batch.clean.video.shape[0] == 2

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--output", "-o", type=Path, required=True, help="CSV to add to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    reads = {"clips": clips, "batches": batches(0), "batches by a worker": batches(1)}
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), []
        shards = make_shards(folder, options.clips)
        shape = "x".join(map(str, shards.entries[0].shapes["video"]))
        for what, read in reads.items():
            for cache in ("cold", "warm"):
                if cache == "cold":
                    drop_from_cache(folder)
                facts = {"read": what, "cache": cache, "clips": len(shards), "video_latents": shape}
                rows.append(facts | {"mb_per_s": round(rate(folder, read))} | machine(torch.device("cpu")))
    append_csv(options.output, rows)


if __name__ == "__main__":
    main()
