"""Guidances compared fairly: SyncCFG, isolation and text CFG on the toy world, all for the same number of passes.

A way that needs more passes a step gets fewer steps, so that none is better for being given more compute. Every way
makes the same scenes from the same noise, and differences are taken scene by scene.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..diffusion.guidance import Guidance, Isolated, SyncCFG, TextCFG
from ..pipelines import GenerateRequest, HarmonyPipeline
from ..toyworld import BallScene
from ..toyworld.pictures import FLOOR_Y
from .quality import Clip, HeldOut, bootstrap_interval, held_out, score

NONE = "none"  # the way that the others are held against
BUDGETS = (12, 24, 72)  # passes a clip
CHUNK = 8  # scenes made together
OBEDIENCE = ("colour", "floor", "impact_sound", "word_count", "words", "shirt", "hair")
GUIDANCES: dict[str, type[Guidance]] = {"text": TextCFG, "isolated": Isolated, "sync": SyncCFG}
FIELDS = ("way", "budget", "steps", "passes", "seed", "metric", "value")


@dataclass(frozen=True)
class Way:
    """Guidances with a scale each for the video and the sound: (guidance, of the video, of the sound).

    `name` is such as `text 2 + sync 1.5`, or `sync 1.5 3` where both differ.
    """

    scales: tuple[tuple[str, float, float], ...] = ()

    @classmethod
    def of(cls, name: str) -> Way:
        """The way of a name. Raises ValueError."""
        if name == NONE:
            return cls()
        words = [part.split() for part in name.split(" + ")]
        try:
            scales = tuple((guidance, float(numbers[0]), float(numbers[-1])) for guidance, *numbers in words)
        except (ValueError, IndexError):
            scales = ()
        known = {guidance for guidance, video, audio in scales if guidance in GUIDANCES and (video, audio) != (1, 1)}
        if not scales or len(known) < len(words) or max(map(len, words)) > 3:
            raise ValueError(
                f"{name!r} is no way; write {NONE!r}, or of {', '.join(GUIDANCES)} each at most once, with a scale "
                "that is not 1: 'text 2 + sync 1.5', or one for the video and one for the sound: 'sync 1.5 3'."
            )
        return cls(scales)

    @property
    def name(self) -> str:
        parts = [f"{name} {video:g}" + ("" if video == audio else f" {audio:g}") for name, video, audio in self.scales]
        return " + ".join(parts) or NONE

    @property
    def passes_per_step(self) -> int:
        """The joint pass, and one for each negative of joint generation; a scale of 1 needs none."""
        negatives = {name for guidance in self.guidances() for name in guidance.passes(True, True)}
        return 1 + len(negatives)

    def guidances(self) -> tuple[Guidance, ...]:
        return tuple(GUIDANCES[name](video_scale=video, audio_scale=audio) for name, video, audio in self.scales)


WAYS = tuple(
    map(
        Way.of,
        (
            NONE,
            *(f"{name} {scale}" for name in GUIDANCES for scale in (1.5, 3)),
            "text 2 + isolated 1.5",
            "text 2 + sync 1.5",
            "isolated 1.5 + sync 1.5",
            "text 2 + isolated 1.5 + sync 1.5",
        ),
    )
)


def compare(
    pipeline: HarmonyPipeline,
    scenes: int,
    budgets: Sequence[int],
    done: set[tuple[str, int, int]],
    ways: Sequence[Way] = WAYS,
    progress: Callable[[str, int], None] = lambda *_: None,
) -> Iterator[list[dict[str, Any]]]:
    """Rows of `FIELDS` of each chunk of scenes, way by way, so that every way has the same scenes whenever it stops.

    Args:
        done: (way, budget, seed) that earlier runs made.

    Raises:
        ValueError: a budget that is too small for a step of some way.
    """
    dearest = max(ways, key=lambda way: way.passes_per_step)
    if min(budgets) < dearest.passes_per_step:
        raise ValueError(
            f"The smallest budget is {min(budgets)} passes, but a step of {dearest.name!r} takes "
            f"{dearest.passes_per_step}; give at least as many."
        )
    rows = held_out(scenes, reference_seconds=0.48)
    for start in range(0, scenes, CHUNK):
        chunk = rows[start : start + CHUNK]
        for budget in budgets:
            for way in ways:
                wanted = [scene for scene in chunk if (way.name, budget, scene.seed) not in done]
                if wanted:
                    progress(f"{way.name}, {budget} passes", start)
                    yield _make(pipeline, wanted, way, budget)


def _make(pipeline: HarmonyPipeline, scenes: Sequence[HeldOut], way: Way, budget: int) -> list[dict[str, Any]]:
    steps = budget // way.passes_per_step
    before = time.process_time()
    clips = pipeline.batch([_request(scene, steps) for scene in scenes], guidances=way.guidances())
    seconds = (time.process_time() - before) / len(scenes)
    rows = []
    for scene, made in zip(scenes, clips, strict=True):
        assert made.samples is not None  # every model of the toy world makes sound
        clip = made.frames, made.samples[0]
        facts = {"way": way.name, "budget": budget, "steps": steps, "passes": steps * way.passes_per_step}
        for metric, value in {**measures(scene, clip), "cpu_s": seconds}.items():
            rows.append({**facts, "seed": scene.seed, "metric": metric, "value": round(value, 5)})
    return rows


def _request(held: HeldOut, steps: int) -> GenerateRequest:
    scene = held.clip.scene
    return GenerateRequest(
        prompt=scene.video_caption,
        audio_prompt=scene.audio_caption,
        transcript=scene.transcript,
        seed=held.seed,
        steps=steps,
    )


def measures(scene: HeldOut, clip: Clip) -> dict[str, float]:
    """Sync, obedience and quality of one clip.

    `sync` is 0..1: intersection over union of impacts and onsets, or the mouth's correlation with the loudness.
    `obedience` is the mean of what the captions and transcript say that is so. `roundness` and `disc_overlap` (balls)
    are those; `shimmer` is the mean change from frame to frame, in grey levels, of what stands still.
    """
    found = score(scene, clip)
    obedience = float(np.mean([found[name] for name in OBEDIENCE if name in found]))
    is_ball = isinstance(scene.clip.scene, BallScene)
    values = {"sync": found["iou"] if is_ball else found["mouth_r"], "obedience": obedience}
    values["shimmer"] = shimmer(clip[0], is_ball)
    if is_ball:
        values["lag_s"] = found["mean_abs_lag_s"]
        values |= {name: found[name] for name in ("roundness", "disc_overlap")}
    return values


def shimmer(video: np.ndarray, is_ball: bool) -> float:
    """Mean absolute change from frame to frame of the floor's lower half, or of the rows above a head."""
    height = video.shape[1]
    still = video[:, (height + int(FLOOR_Y)) // 2 :] if is_ball else video[:, :4]
    return float(np.abs(np.diff(still.astype(np.float64), axis=0)).mean())


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean with a 95 % bootstrap interval of every way, budget and metric, and the mean difference to `none` at the
    same budget, scene by scene, with its interval: None where no scene has both."""
    values: dict[tuple[str, int, str], dict[int, float]] = {}
    facts: dict[tuple[str, int], dict[str, int]] = {}
    for row in rows:
        way, budget, metric = str(row["way"]), int(row["budget"]), str(row["metric"])
        values.setdefault((way, budget, metric), {})[int(row["seed"])] = float(row["value"])
        facts[way, budget] = {"steps": int(row["steps"]), "passes": int(row["passes"])}
    table = []
    for (way, budget, metric), found in values.items():
        plain = values.get((NONE, budget, metric), {})
        differences = [found[seed] - plain[seed] for seed in found if seed in plain]
        mean, (low, high) = float(np.mean([*found.values()])), bootstrap_interval([*found.values()], seed=0)
        line = {"way": way, "budget": budget, **facts[way, budget], "metric": metric, "scenes": len(found)}
        line |= {"mean": mean, "low": low, "high": high}
        line |= {"more": None, "more_low": None, "more_high": None}
        if differences:
            more_low, more_high = bootstrap_interval(differences, seed=0)
            line |= {"more": float(np.mean(differences)), "more_low": more_low, "more_high": more_high}
        table.append({name: round(x, 4) if isinstance(x, float) else x for name, x in line.items()})
    return table
