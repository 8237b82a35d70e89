"""The hard world's measures: each ball against its own sound, and the room that is heard against the room seen."""

from __future__ import annotations

from functools import cache

import numpy as np

from ..hard import HALF, HARD_SHARES, hard_audio, hard_video, sample_hard_scene
from ..rooms import ROOMS
from ..scenes import BallScene
from ..vocabulary import MATERIALS
from ..words import SAMPLE_RATE
from .impacts import LAG_CAP_S, impacts_from_video, match_lags, onsets_from_audio
from .spectra import ENVELOPE_RATE, envelope, is_audible, mel_filters, power_frames
from .traits import NearestCentroid, ball_colour

_FIT_SEED = 910_000  # the classifiers' own clips
_BEFORE_S, _AFTER_S = 0.03, 0.07  # of an onset, compared for what it adds


def ball_scores(
    video: np.ndarray,
    audio: np.ndarray,
    materials: tuple[str, ...],
    fps: float | str,
    sample_rate: int,
    unseen: str = "",
) -> dict[str, float]:
    """How well each ball agrees with the sounds of its own material.

    Each half of the picture is a ball, whose impacts are paired with the onsets that sound more like its own of the two
    `materials` than like the other's, as `impact_scores` pairs them. Onsets that sound most like `unseen`, the material
    of a ball outside the picture, belong to neither. Both balls together:
        ball_lag_s: mean over the pairs and what is left over, which counts as LAG_CAP_S
        ball_iou: pairs within 1 / fps over all distinct events
        attribution: of the onsets within 1 / fps of an impact of either ball, the share whose material is that ball's;
            left out where there is none
        unseen_answered: of the onsets of `unseen`, the share within 1 / fps of an impact of either ball, of which truth
            has none; left out where there is none
    """
    seen = [impacts_from_video(video[:, :, side * HALF : (side + 1) * HALF], fps) for side in range(2)]
    onsets = onsets_from_audio(audio, sample_rate)
    among = (*materials, unseen) if unseen else materials
    heard_as = np.array([onset_material(audio, at, among) for at in onsets], dtype=object)
    outside, onsets, heard_as = onsets[heard_as == unseen], onsets[heard_as != unseen], heard_as[heard_as != unseen]
    lags, total = [], len(onsets) + sum(map(len, seen))
    for material, impacts in zip(materials, seen, strict=True):
        lags += match_lags(impacts, onsets[heard_as == material])
    close = sum(abs(lag) <= 1 / float(fps) for lag in lags)
    costs = [abs(lag) for lag in lags] + [LAG_CAP_S] * (total - 2 * len(lags))
    scores = {
        "ball_lag_s": float(np.mean(costs)) if costs else LAG_CAP_S,
        "ball_iou": close / max(total - close, 1),
    }
    owners = _owners(seen, onsets, 1 / float(fps))
    met = [heard_as[index] == materials[side] for index, side in owners]
    scores |= {"attribution": float(np.mean(met))} if met else {}
    answered = len(_owners(seen, outside, 1 / float(fps)))
    return scores | ({"unseen_answered": answered / len(outside)} if len(outside) else {})


def _owners(seen: list[np.ndarray], onsets: np.ndarray, within: float) -> list[tuple[int, int]]:
    """Of each onset that meets an impact, its index and the ball of the nearest one."""
    owners = []
    for index, onset in enumerate(onsets):
        nearest, side = min(
            ((abs(at - onset), side) for side, each in enumerate(seen) for at in each), default=(1.0, 0)
        )
        if nearest <= within:
            owners.append((index, side))
    return owners


def ball_colours(video: np.ndarray) -> tuple[str, str]:
    """The left and the right ball's nearest of COLOURS, "" where there is none."""
    return ball_colour(video[:, :, :HALF]), ball_colour(video[:, :, HALF:])


def onset_material(audio: np.ndarray, seconds: float, materials: tuple[str, ...] = MATERIALS) -> str:
    """Which of `materials` a sound that sets in at `seconds` is of (16 kHz)."""
    return _onset_classifier().among(materials)(_onset_features(audio, seconds))


def room_seen(video: np.ndarray) -> str:
    """The room that a picture shows, one of ROOMS."""
    return _room_classifiers()[0](_room_picture(video))


def room_heard(audio: np.ndarray) -> str:
    """The room that a sound (16 kHz) carries, one of ROOMS, or "" in silence."""
    return _room_classifiers()[1](_room_sound(audio)) if is_audible(audio) else ""


def room_agrees(video: np.ndarray, audio: np.ndarray) -> float:
    """1 where the room that is heard is the one that is seen, else 0."""
    return float(room_seen(video) == room_heard(audio))


def _onset_features(audio: np.ndarray, seconds: float) -> np.ndarray:
    """Log spectrum in 32 bands of what an onset adds to the sound before it, level removed: float64 [32]."""
    power = power_frames(audio) @ mel_filters(64).T
    at = seconds * SAMPLE_RATE / 160  # in frames
    before = power[max(round(at - _BEFORE_S * 100) - 1, 0) : max(round(at - _BEFORE_S * 100) + 1, 1)].mean(axis=0)
    after = power[round(at) + 1 : round(at + _AFTER_S * 100) + 1]
    added = (after - before).clip(0).reshape(-1, 32, 2).sum(axis=(0, 2))
    return np.log10(added / max(added.sum(), 1e-12) + 1e-4)


def _room_picture(video: np.ndarray) -> np.ndarray:
    """Brightness of 16 blocks along the top, and of the sides, beside the mean: float64 [24]."""
    grey = video.astype(np.float64).mean(axis=(0, 3))
    top = grey[:8].reshape(2, 4, 16, 4).mean(axis=(1, 3)).ravel()
    sides = np.concatenate([grey[12:44, :8].mean(axis=0), grey[12:44, 56:].mean(axis=0)]).reshape(4, 4).mean(axis=1)
    feature = np.concatenate([top, sides])
    return (feature - feature.mean()) / 255


def _room_sound(audio: np.ndarray) -> np.ndarray:
    """How far the loudness falls within 0.1, 0.2 and 0.3 s where it falls the most, in decades: float64 [3].

    What is softer than a thousandth of the loudest counts as that.
    """
    level = envelope(audio, SAMPLE_RATE)
    decades = np.log10(np.maximum(level / level.max(), 1e-3))
    steps = [round(seconds * ENVELOPE_RATE) for seconds in (0.1, 0.2, 0.3)]
    return np.array([np.quantile(decades[:-step] - decades[step:], 0.98) for step in steps])


@cache
def _onset_classifier() -> NearestCentroid:
    features: dict[str, list[np.ndarray]] = {name: [] for name in MATERIALS}
    for seed in range(_FIT_SEED, _FIT_SEED + 60):
        scene = sample_hard_scene(np.random.default_rng(seed), "two balls")
        audio = hard_audio(scene)
        for ball in scene.parts:
            assert isinstance(ball, BallScene)
            features[ball.material] += [_onset_features(audio, at) for at in ball.impact_times]
    return NearestCentroid.fit(features, shrinkage=0.2)


@cache
def _room_classifiers() -> tuple[NearestCentroid, NearestCentroid]:
    pictures: dict[str, list[np.ndarray]] = {name: [] for name in ROOMS}
    sounds: dict[str, list[np.ndarray]] = {name: [] for name in ROOMS}
    kinds = tuple(HARD_SHARES)
    for seed in range(_FIT_SEED, _FIT_SEED + 60):
        scene = sample_hard_scene(np.random.default_rng(seed), kinds[seed % len(kinds)])
        pictures[scene.room].append(_room_picture(hard_video(scene)))
        sounds[scene.room].append(_room_sound(hard_audio(scene)))
    return NearestCentroid.fit(pictures, 0.2), NearestCentroid.fit(sounds, 0.2)
