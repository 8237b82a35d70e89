"""How good the embedded checkpoint is: held-out scenes of the toy world, measured from pixels and samples.

Every case is scored by the same measurements (toyworld/measures): ground truth, shuffled pairs (chance), the
autoencoders' round trip, and each way of generating. `summary` turns clips into means with bootstrap intervals, and
into the share of the way from chance to ground truth.
"""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..diffusion.latents import AVLatents
from ..media import AudioClip, VideoClip
from ..model.interaction import FramewiseInteraction
from ..pipelines import GenerateRequest, HarmonyPipeline
from ..quoting import quoted
from ..toyworld import (
    FPS,
    FREE_SPEECH,
    HELD_OUT_SEED,
    MIXED,
    PLAIN,
    SAMPLE_RATE,
    WORLDS,
    BallScene,
    FaceScene,
    ToyClip,
    reference_audio,
    render,
)
from ..toyworld.measures.impacts import impact_scores
from ..toyworld.measures.mouths import mouth_correlation
from ..toyworld.measures.traits import (
    ball_colour,
    disc_overlap,
    floor_material,
    hair_colour,
    impact_material,
    nearest_voice,
    roundness,
    shirt_colour,
    steadiness,
)
from ..toyworld.measures.words import heard_words, word_accuracy, word_count

Progress = Callable[[str, int, int], None]
Clip = tuple[np.ndarray, np.ndarray]  # frames uint8 [F, H, W, 3], samples float32 [N]
KINDS = ("ball", "face")
MEASURED = PLAIN, FREE_SPEECH, MIXED  # the worlds of such kinds
IMPACTS, MOUTHS = ("mean_abs_lag_s", "within_one_frame", "iou"), ("mouth_r",)


@dataclass(frozen=True)
class HeldOut:
    """One held-out scene as rendered, and a reference of the same voice or material."""

    seed: int
    clip: ToyClip
    reference: np.ndarray


def held_out(count: int, reference_seconds: float, world: str = PLAIN, kinds: tuple[str, ...] = KINDS) -> list[HeldOut]:
    """`count` scenes of a world's `kinds`, in turn, from seeds that no training run draws from."""
    scenes = []
    for index in range(count):
        rng = np.random.default_rng(HELD_OUT_SEED + index)
        clip = render(WORLDS[world](rng, kinds[index % len(kinds)]))
        scenes.append(HeldOut(HELD_OUT_SEED + index, clip, reference_audio(clip.scene, reference_seconds, rng)))
    return scenes


def ground_truth(scenes: Sequence[HeldOut], **_: object) -> Iterable[tuple[HeldOut, Clip]]:
    """What was rendered."""
    return ((scene, (scene.clip.video, scene.clip.audio)) for scene in scenes)


def shuffled(scenes: Sequence[HeldOut], **_: object) -> Iterable[tuple[HeldOut, Clip]]:
    """Each picture with the sound of the next scene of its kind: what chance scores."""
    for index, scene in enumerate(scenes):
        other = scenes[(index + len(KINDS)) % len(scenes)]
        yield scene, (scene.clip.video, other.clip.audio)


def round_trip(scenes: Sequence[HeldOut], pipeline: HarmonyPipeline, **_: object) -> Iterable[tuple[HeldOut, Clip]]:
    """Encoded and decoded, nothing generated."""
    geometry = pipeline.geometry(GenerateRequest(prompt=""))
    for scene in scenes:
        audio = pipeline.encode_audio(scene.clip.audio, geometry.num_audio_latents)
        frames, samples = pipeline.decode(AVLatents(pipeline.encode_video(scene.clip.video), audio), geometry)
        yield scene, _heard(frames, samples)


def _heard(frames: np.ndarray, samples: np.ndarray | None) -> Clip:
    assert samples is not None  # every model of the toy world makes sound
    return frames, samples[0]


@dataclass(frozen=True)
class Generated:
    """One way of generating: what is given, with which guidance, with or without style alignment."""

    given: tuple[str, ...] = ()  # of "audio", "video" and "reference_audio"
    guided: bool = True
    style: bool = True
    kinds: tuple[str, ...] = KINDS

    def __call__(
        self, scenes: Sequence[HeldOut], pipeline: HarmonyPipeline, batch: int, progress: Callable[[int, int], None]
    ) -> Iterable[tuple[HeldOut, Clip]]:
        scenes = [scene for scene in scenes if scene.clip.scene.kind in self.kinds]
        if not self.style:
            pipeline = without_style(pipeline)
        for start in range(0, len(scenes), batch):
            rows = scenes[start : start + batch]
            for scene, made in zip(rows, pipeline.batch([self._request(row, pipeline) for row in rows]), strict=True):
                yield scene, _heard(made.frames, made.samples)
            progress(start + len(rows), len(scenes))

    def _request(self, held: HeldOut, pipeline: HarmonyPipeline) -> GenerateRequest:
        scene = held.clip.scene
        media = {
            "audio": AudioClip(held.clip.audio[None], SAMPLE_RATE),
            "video": VideoClip(held.clip.video, Fraction(FPS)),
            "reference_audio": AudioClip(held.reference[None], SAMPLE_RATE),
        }
        return GenerateRequest(
            prompt=scene.video_caption,
            audio_prompt=scene.audio_caption,
            transcript="" if pipeline.config.speech is None else scene.transcript,
            seed=held.seed,
            video_sync_scale=None if self.guided else 1.0,
            audio_sync_scale=None if self.guided else 1.0,
            **{name: media[name] for name in self.given},
        )


CASES: dict[str, Callable[..., Iterable[tuple[HeldOut, Clip]]]] = {
    "ground_truth": ground_truth,
    "shuffled": shuffled,
    "round_trip": round_trip,
    "joint": Generated(),
    "joint_unguided": Generated(guided=False),
    "audio_to_video": Generated(given=("audio",)),
    "video_to_audio": Generated(given=("video",)),
    "reference_voice": Generated(given=("reference_audio",), kinds=("face",)),
    "reference_voice_no_style": Generated(given=("reference_audio",), style=False, kinds=("face",)),
}


def without_style(pipeline: HarmonyPipeline) -> HarmonyPipeline:
    """The same pipeline with global style alignment taken out."""
    changed = copy.copy(pipeline)
    changed.transformer = copy.deepcopy(pipeline.transformer)
    for module in changed.transformer.modules():
        if isinstance(module, FramewiseInteraction):
            module.style = None
    return changed


def score(scene: HeldOut, clip: Clip) -> dict[str, float]:
    """All measurements that apply to the scene's kind; obedience is 1 or 0, `steady_colour` a share of frames."""
    wanted, (frames, samples) = scene.clip.scene, clip
    if isinstance(wanted, BallScene):
        return {
            **impact_scores(frames, samples, FPS, SAMPLE_RATE),
            "colour": float(ball_colour(frames) == wanted.colour),
            "floor": float(floor_material(frames) == wanted.material),
            "impact_sound": float(impact_material(samples) == wanted.material),
            "roundness": roundness(frames),
            "disc_overlap": disc_overlap(frames),
            "steady_colour": steadiness(frames, ball_colour),
        }
    assert isinstance(wanted, FaceScene)
    return {
        "mouth_r": mouth_correlation(frames, samples, FPS),
        "word_count": float(word_count(samples) == len(wanted.words)),
        "words": word_accuracy(heard_words(samples), wanted.words),
        "voice": float(nearest_voice(samples) == wanted.voice),
        "shirt": float(shirt_colour(frames) == wanted.shirt),
        "hair": float(hair_colour(frames) == wanted.hair),
        "steady_colour": steadiness(frames, shirt_colour),
    }


def run_cases(
    pipeline: HarmonyPipeline, names: Sequence[str], count: int, batch: int, progress: Progress, world: str = PLAIN
) -> list[dict[str, Any]]:
    """One row a clip, case and metric.

    Args:
        world: one of MEASURED.

    Raises:
        ValueError: an unknown case or world, or fewer clips than a shuffled pair needs.
    """
    if world not in MEASURED:
        raise ValueError(f"world is {quoted(world)}, but must be one of {', '.join(MEASURED)}.")
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise ValueError(f"Unknown case {unknown[0]!r}. Cases: {', '.join(CASES)}.")
    if count < 2 * len(KINDS):
        raise ValueError(
            f"clips is {count}, but at least {2 * len(KINDS)} are needed for a shuffled pair of each kind."
        )
    scenes = held_out(count, 0.48, world)
    rows = []
    for name in names:
        made = CASES[name](
            scenes, pipeline=pipeline, batch=batch, progress=lambda done, total, name=name: progress(name, done, total)
        )
        for scene, clip in made:
            for metric, value in score(scene, clip).items():
                rows.append({"case": name, "seed": scene.seed, "metric": metric, "value": round(float(value), 5)})
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, 95 % bootstrap interval and clip count of every case and metric, and the way from chance to truth."""
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        values.setdefault((str(row["metric"]), str(row["case"])), []).append(float(row["value"]))
    means = {key: float(np.mean(each)) for key, each in values.items()}
    table = []
    for (metric, case), each in values.items():
        low, high = bootstrap_interval(each, seed=0)
        truth, chance = means.get((metric, "ground_truth")), means.get((metric, "shuffled"))
        line = {"metric": metric, "case": case, "clips": len(each), "mean": means[metric, case]}
        line |= {"low": low, "high": high, "of_the_way": None}
        if metric in IMPACTS + MOUTHS and truth is not None and chance is not None:
            line["of_the_way"] = (means[metric, case] - chance) / (truth - chance)
        table.append(line)
    return table


def markdown(table: Sequence[dict[str, Any]]) -> str:
    """The summary as a table: a row a case, a column a metric."""
    metrics = list(dict.fromkeys(str(line["metric"]) for line in table))
    cases = list(dict.fromkeys(str(line["case"]) for line in table))
    cells = {(line["case"], line["metric"]): line for line in table}
    lines = ["| | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for case in cases:
        texts = []
        for metric in metrics:
            line = cells.get((case, metric))
            if line is None:
                texts.append("")
                continue
            way = "" if line["of_the_way"] is None else f" ({line['of_the_way']:.0%})"
            texts.append(f"{line['mean']:.3f}{way}")
        lines.append(f"| {case} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def bootstrap_interval(values: Sequence[float], seed: int, share: float = 0.95) -> tuple[float, float]:
    """The interval that holds `share` of the means of 2,000 resamplings of `values`."""
    sample = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(sample), size=(2000, len(sample)))
    low, high = np.quantile(sample[picks].mean(axis=1), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of one kind as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_rows(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Rows of several CSV files of `write_rows`."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        with path.open(newline="") as file:
            rows.extend(csv.DictReader(file))
    return rows
