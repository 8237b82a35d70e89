"""How long generation takes on this machine, as rows for a CSV."""

from __future__ import annotations

import csv
import platform
import time
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..geometry import as_fraction
from ..media import AudioClip, VideoClip
from ..pipelines import GenerateRequest, HarmonyPipeline


def time_tasks(pipeline: HarmonyPipeline, repeats: int = 5, steps: int | None = None) -> list[dict[str, object]]:
    """Seconds from request to decoded clip for each task, after one run to warm up.

    Raises:
        ValueError: fewer than one repeat.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}, but must be 1 or more.")
    geometry = pipeline.geometry(GenerateRequest(prompt=""))
    still = np.full((geometry.num_frames, geometry.height, geometry.width, 3), 127, np.uint8)
    video = VideoClip(still, as_fraction(geometry.fps))
    audio = AudioClip(np.zeros((1, geometry.num_samples), np.float32), geometry.sample_rate)
    off = {"video_sync_scale": 1.0, "audio_sync_scale": 1.0}
    tasks = {
        "joint": {},
        "joint, no SyncCFG": off,
        "audio_to_video": {"audio": audio},
        "video_to_audio": {"video": video},
    }
    rows = []
    for task, given in tasks.items():
        request = GenerateRequest(prompt="a blue ball bounces on metal", steps=steps, **given)
        passes = pipeline(request).passes_per_step
        seconds = [_timed(pipeline, request) for _ in range(repeats)]
        p20, p50, p80 = np.percentile(seconds, (20, 50, 80))
        rows.append(
            {
                "task": task,
                "steps": steps if steps is not None else pipeline.config.steps,
                "passes_per_step": passes,
                "clip_seconds": geometry.duration_s,
                "size": f"{geometry.width}x{geometry.height}",
                "seconds_p50": round(float(p50), 4),
                "seconds_p20": round(float(p20), 4),
                "seconds_p80": round(float(p80), 4),
                "repeats": repeats,
                **machine(pipeline.device),
            }
        )
    return rows


def machine(device: torch.device) -> dict[str, object]:
    """What ran it: device, threads and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device.type} {name}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "harmony": __version__,
    }


def append_csv(path: Path, rows: list[dict[str, object]]) -> None:
    """Append rows, with a header if the file is new or empty."""
    is_new = not path.exists() or path.stat().st_size == 0
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def _timed(pipeline: HarmonyPipeline, request: GenerateRequest) -> float:
    start = time.perf_counter()
    pipeline(request)
    return time.perf_counter() - start
