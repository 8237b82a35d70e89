"""Obedience to the captions: the colours, materials, hair and voices of a clip."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ..pictures import BALL_RADIUS, FLOOR_Y, PAINTS, scene_video
from ..sample import sample_scene
from ..scenes import Scene
from ..sounds import scene_audio
from ..vocabulary import HAIR_COLOURS, MATERIALS
from ..words import PERSON_OF_VOICE
from .impacts import ball_weight
from .spectra import is_audible, mel_filters, power_frames

_FIT_SEED = 900_000  # the classifiers' own clips


def _nearest_paint(colour: np.ndarray) -> str:
    """The paint of the nearest hue."""
    hues = {name: colorsys.rgb_to_hsv(*np.array(paint) / 255)[0] for name, paint in PAINTS.items()}
    hue = colorsys.rgb_to_hsv(*np.asarray(colour) / 255)[0]
    return min(hues, key=lambda name: abs((hues[name] - hue + 0.5) % 1 - 0.5))


def ball_colour(video: np.ndarray) -> str:
    """The nearest of COLOURS to the ball's, or "" where there is no ball."""
    weight_FHW = ball_weight(video) ** 2
    if not weight_FHW.any():
        return ""
    return _nearest_paint(np.einsum("fhw,fhwc->c", weight_FHW, video[:, : int(FLOOR_Y)]) / weight_FHW.sum())


def roundness(video: np.ndarray) -> float:
    """The ball's shorter axis over its longer one, the mean over the frames in which it is off the floor; 0 without a
    ball. Axes are from the second moments of `ball_weight`."""
    ratios = []
    for weight_HW in ball_weight(video):
        total = weight_HW.sum()
        if total == 0:
            continue
        rows, columns = np.mgrid[: weight_HW.shape[0], : weight_HW.shape[1]]
        points_2N = np.stack([rows.ravel(), columns.ravel()])
        share_N = weight_HW.ravel() / total
        centre_2 = points_2N @ share_N
        if centre_2[0] > FLOOR_Y - BALL_RADIUS - 4:
            continue
        apart_2N = points_2N - centre_2[:, None]
        low, high = np.linalg.eigvalsh((apart_2N * share_N) @ apart_2N.T)
        ratios.append(np.sqrt(low / high))
    return float(np.mean(ratios)) if ratios else 0.0


def disc_overlap(video: np.ndarray) -> float:
    """Intersection over union of the ball's pixels with a disc of a ball's radius around their centre, the mean over
    the frames. Unlike `roundness` it sees notches, ragged edges and ghosts, which leave a ball's axes as they are.

    A ball's pixel is one that differs from what is behind it, which is one colour a row, by an eighth of what the
    ball's dark outline does.
    """
    above_FHWC = video[:, : int(FLOOR_Y)].astype(np.float64)
    beside = np.concatenate([above_FHWC[:, :, :6], above_FHWC[:, :, -6:]], axis=2)
    behind = np.median(beside, axis=2, keepdims=True)
    ball_FHW = np.linalg.norm(above_FHWC - behind, axis=3) > 30
    rows, columns = np.mgrid[: ball_FHW.shape[1], : ball_FHW.shape[2]]
    overlaps = []
    for ball_HW in ball_FHW:
        if not ball_HW.any():
            overlaps.append(0.0)
            continue
        distance = np.hypot(rows - rows[ball_HW].mean(), columns - columns[ball_HW].mean())
        disc_HW = distance <= BALL_RADIUS + 0.375  # there an outline covers an eighth of a pixel
        overlaps.append((ball_HW & disc_HW).sum() / (ball_HW | disc_HW).sum())
    return float(np.mean(overlaps))


def steadiness(video: np.ndarray, colour_of: Callable[[np.ndarray], str]) -> float:
    """The share of frames whose colour, by `ball_colour` or `shirt_colour`, is the whole clip's."""
    whole = colour_of(video)
    return float(np.mean([colour_of(frame[None]) == whole for frame in video]))


def shirt_colour(video: np.ndarray) -> str:
    """The nearest of COLOURS to the shirt's; meaningful for faces only."""
    return _nearest_paint(video[:, 58:, 18:46].mean(axis=(0, 1, 2)))


def hair_colour(video: np.ndarray) -> str:
    """The nearest of HAIR_COLOURS to the hair's; meaningful for faces only."""
    return _hair_classifier()(_hair_features(video))


def floor_material(video: np.ndarray) -> str:
    """The material that the floor looks like; meaningful for balls only."""
    return _floor_classifier()(_floor_features(video))


def impact_material(audio: np.ndarray) -> str:
    """The material that the impacts sound like (16 kHz), or "" in silence."""
    return _impact_classifier()(timbre(audio)) if is_audible(audio) else ""


def nearest_voice(audio: np.ndarray) -> str:
    """The voice that speech (16 kHz) sounds most like, or "" in silence."""
    return _voice_classifier()(timbre(audio)) if is_audible(audio) else ""


@dataclass(frozen=True)
class NearestCentroid:
    """The class whose mean is nearest, with features weighed by their common spread within the classes."""

    names: tuple[str, ...]
    centroids: np.ndarray
    precision: np.ndarray

    @classmethod
    def fit(cls, features: dict[str, list[np.ndarray]], shrinkage: float) -> NearestCentroid:
        """Of features of each class; `shrinkage` of their spread is replaced by an even one."""
        groups = [np.stack(group) for group in features.values()]
        centroids = np.stack([group.mean(axis=0) for group in groups])
        spread = np.cov(np.concatenate([group - group.mean(axis=0) for group in groups]).T)
        mean_variance = np.trace(spread) / len(spread)
        spread = (1 - shrinkage) * spread + shrinkage * mean_variance * np.eye(len(spread))
        return cls(tuple(features), centroids, np.linalg.inv(spread))

    def among(self, names: Sequence[str]) -> NearestCentroid:
        """The same for some of the classes."""
        return replace(self, names=tuple(names), centroids=self.centroids[[self.names.index(each) for each in names]])

    def __call__(self, feature: np.ndarray) -> str:
        offset = feature - self.centroids
        return self.names[int(np.einsum("nd,de,ne->n", offset, self.precision, offset).argmin())]


def _loud_frames(audio: np.ndarray) -> np.ndarray:
    """Power spectra of the frames within 20 dB of the loudest."""
    power = power_frames(audio)
    total = power.sum(axis=1)
    return power[total > 0.01 * total.max()]


def timbre(audio: np.ndarray) -> np.ndarray:
    """Mean over the loud frames of the log spectrum in 32 bands, level removed: float64 [32].

    The bands are fine enough to hold the harmonics of high voices, and stay measurable after a mel vocoder, in which
    the pitch of a deep voice is lost.
    """
    mel = (_loud_frames(audio) @ mel_filters(64).T).reshape(-1, 32, 2).sum(axis=2)
    return np.log10(mel / mel.sum(axis=1, keepdims=True) + 1e-4).mean(axis=0)


def _hair_features(video: np.ndarray) -> np.ndarray:
    return video[:, 13:17, 27:37].mean(axis=(0, 1, 2), dtype=np.float64)


def _floor_features(video: np.ndarray) -> np.ndarray:
    return video[:, 54:].mean(axis=(0, 1, 2), dtype=np.float64)


def _fit(
    kind: str,
    names: Sequence[str],
    field: str,
    features: Callable[[np.ndarray], np.ndarray],
    make: Callable[[Scene], np.ndarray],
    clips: int,
) -> NearestCentroid:
    """Fit on `clips` rendered clips of each class that `field` of their scenes names."""
    groups: dict[str, list[np.ndarray]] = {name: [] for name in names}
    seed = _FIT_SEED
    while min(map(len, groups.values())) < clips:
        scene = sample_scene(np.random.default_rng(seed), kind)
        seed += 1
        group = groups[getattr(scene, field)]
        if len(group) < clips:
            group.append(features(make(scene)))
    return NearestCentroid.fit(groups, shrinkage=0.2)


@cache
def _hair_classifier() -> NearestCentroid:
    return _fit("face", HAIR_COLOURS, "hair", _hair_features, scene_video, 12)


@cache
def _floor_classifier() -> NearestCentroid:
    return _fit("ball", MATERIALS, "material", _floor_features, scene_video, 8)


@cache
def _impact_classifier() -> NearestCentroid:
    return _fit("ball", MATERIALS, "material", timbre, scene_audio, 12)


@cache
def _voice_classifier() -> NearestCentroid:
    return _fit("face", tuple(PERSON_OF_VOICE), "voice", timbre, scene_audio, 24)
