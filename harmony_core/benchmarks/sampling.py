"""How long each task takes, from a request to a decoded clip."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..geometry import as_fraction
from ..media import AudioClip, VideoClip
from ..pipelines import GenerateRequest, HarmonyPipeline
from .timing import Meter, comparison, machine, take_turns

JOINT, PLAIN = "joint", "joint, no SyncCFG"


def time_tasks(pipeline: HarmonyPipeline, repeats: int = 5, steps: int | None = None) -> list[dict[str, Any]]:
    """Seconds of each task, the tasks taking turns, after one run of each to warm up.

    Raises:
        ValueError: fewer than one repeat.
    """
    geometry = pipeline.geometry(GenerateRequest(prompt=""))
    still = np.full((geometry.num_frames, geometry.height, geometry.width, 3), 127, np.uint8)
    video = VideoClip(still, as_fraction(geometry.fps))
    audio = AudioClip(np.zeros((1, geometry.num_samples), np.float32), geometry.sample_rate)
    tasks = {
        JOINT: {},
        PLAIN: {"video_sync_scale": 1.0, "audio_sync_scale": 1.0},
        "audio_to_video": {"audio": audio},
        "video_to_audio": {"video": video},
    }
    requests = {
        task: GenerateRequest(prompt="a blue ball bounces on metal", steps=steps, **given)
        for task, given in tasks.items()
    }
    measured = take_turns(
        {task: partial(pipeline, request) for task, request in requests.items()}, repeats, Meter(pipeline.device)
    )
    return [
        {
            "task": task,
            "steps": steps if steps is not None else pipeline.config.steps,
            "clip_seconds": geometry.duration_s,
            "size": f"{geometry.width}x{geometry.height}",
            **columns,
            **machine(pipeline.device),
        }
        for task, columns in measured.items()
    ]


def comparisons(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every task beside joint generation without guidance."""
    seconds = {row["task"]: row["seconds_p50"] for row in rows}
    return [comparison(f"generate_{task}", seconds[task], seconds[PLAIN], "s") for task in seconds if task != PLAIN]
