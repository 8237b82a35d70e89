"""What a clip of the toy world shows and sounds like, measured from pixels and samples alone.

Nothing here looks at the scene that made a clip, so rendered and generated clips are measured alike. The world's
layout (where the floor is, how fast things fall, which colours exist) is taken as known; the classifiers are fitted,
when first called, on clips rendered from seeds of their own. Video is uint8 [F, 64, 64, 3], audio float32 [samples];
times are in seconds, and frame i stands for the moment i / fps.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..toyworld import SAMPLE_RATE, Scene, sample_scene
from ..toyworld.captions import HAIR_COLOURS, MATERIALS
from ..toyworld.pictures import FLOOR_Y, GRAVITY, PAINTS, scene_video
from ..toyworld.sounds import scene_audio
from ..toyworld.words import PERSON_OF_VOICE

LAG_CAP_S = 0.5
ENVELOPE_RATE = 500  # values a second
_FIT_SEED = 900_000  # the classifiers' own clips


# Impacts


def ball_track(video: np.ndarray) -> np.ndarray:
    """The row of the ball's centre in pixels from the top: float64 [F], or [0] where there is no ball.

    The ball is what is saturated above the floor, each pixel weighted by how much it is. Frames without one are
    interpolated; if more than half of the frames lack one, the clip shows no ball.
    """
    weight_FHW = _ball_weight(video)
    mass = weight_FHW.sum(axis=(1, 2))
    seen = mass > 0.25 * np.median(mass)
    if seen.mean() < 0.5:
        return np.zeros(0)
    rows = np.arange(weight_FHW.shape[1]) + 0.5
    centre = (weight_FHW.sum(axis=2) @ rows)[seen] / mass[seen]
    return np.interp(np.arange(len(video)), np.flatnonzero(seen), centre)


def _ball_weight(video: np.ndarray) -> np.ndarray:
    above = video[:, : int(FLOOR_Y)].astype(np.float64)
    saturation = above.max(axis=3) - above.min(axis=3)
    strongest = np.percentile(saturation, 97)
    return np.clip(saturation - 0.45 * strongest, 0, None) if strongest > 60 else np.zeros_like(saturation)


def impacts_from_video(video: np.ndarray, fps: float | str) -> np.ndarray:
    """Moments at which the ball turns round at the bottom: float64 [impacts].

    A low is a frame whose ball is at least 4 pixels below a neighbouring rise on both sides. Its exact moment is
    where two parabolas of known gravity, through the frames before and through those after, meet.
    """
    track, fps = ball_track(video), float(fps)
    times = []
    for k in range(1, len(track) - 1):
        fall = track[k] - track[max(k - 3, 0) : k].min()
        rise = track[k] - track[k + 1 : k + 4].min()
        if track[k - 1] < track[k] >= track[k + 1] and min(fall, rise) >= 4:
            times.append(_turning_point(track, k, GRAVITY / fps**2) / fps)
    return np.array(times)


def _turning_point(track: np.ndarray, k: int, gravity: float) -> float:
    """The moment, in frames, near frame k at which two flights under `gravity` meet with the least error."""
    frames = np.arange(max(k - 2, 0), min(k + 3, len(track)))
    best = (np.inf, float(k))
    for moment in np.arange(k - 1, k + 1.001, 0.02):
        since = frames - moment
        # row = floor - speed * |since| + gravity / 2 * since^2, with a speed of its own on either side
        design = np.stack([np.ones(len(frames)), np.minimum(since, 0), -np.maximum(since, 0)], axis=1)
        target = track[frames] - gravity / 2 * since**2
        error = ((design @ np.linalg.lstsq(design, target, rcond=None)[0] - target) ** 2).sum()
        best = min(best, (float(error), float(moment)))
    return best[1]


def onsets_from_audio(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Moments at which a sound sets in: float64 [onsets].

    A sound is a peak of the loudness, the highest within 75 ms and above an eighth of the loudest; it sets in where
    the loudness last rose through half of the peak, within 0.1 s before it.
    """
    level = envelope(audio, sample_rate)
    reach, search = round(0.075 * ENVELOPE_RATE), round(0.1 * ENVELOPE_RATE)
    times: list[float] = []
    for i in np.flatnonzero(level > max(level.max(initial=0) / 8, 1e-3)):
        if level[i] < level[max(i - reach, 0) : i + reach + 1].max():
            continue
        below = np.flatnonzero(level[max(i - search, 0) : i] < level[i] / 2)
        if len(below):
            j = max(i - search, 0) + below[-1]
            rise = (level[i] / 2 - level[j]) / (level[j + 1] - level[j])
            times.append(float(j + rise) / ENVELOPE_RATE)
    return np.array(times)


def envelope(audio: np.ndarray, sample_rate: int, seconds: float = 0.024) -> np.ndarray:
    """RMS in a Hann window of `seconds`: float64 [samples / sample_rate * ENVELOPE_RATE], value i at i / 500 s."""
    width = round(seconds * sample_rate) | 1
    window = np.hanning(width + 2)[1:-1]
    power = np.convolve(np.asarray(audio, dtype=np.float64) ** 2, window / window.sum(), mode="same")
    at = np.arange(round(len(audio) / sample_rate * ENVELOPE_RATE)) * sample_rate // ENVELOPE_RATE
    return np.sqrt(power[at].clip(0))


def impact_scores(video: np.ndarray, audio: np.ndarray, fps: float | str, sample_rate: int) -> dict[str, float]:
    """How well what is seen to hit agrees with what is heard to.

    Impacts and onsets are paired one to one, nearest first, and never further apart than LAG_CAP_S; each one left
    over counts as a pair with that lag.
        mean_abs_lag_s: mean over the pairs and what is left over
        within_one_frame: share of all impacts and onsets that belong to a pair within 1 / fps
        iou: pairs within 1 / fps over all distinct events
    A clip with neither scores 0.5 s, 0 and 0, as one without any agreement does.
    """
    seen, heard = impacts_from_video(video, fps), onsets_from_audio(audio, sample_rate)
    lags = match_lags(seen, heard)
    close = sum(abs(lag) <= 1 / float(fps) for lag in lags)
    total = len(seen) + len(heard)
    costs = [abs(lag) for lag in lags] + [LAG_CAP_S] * (total - 2 * len(lags))
    return {
        "mean_abs_lag_s": float(np.mean(costs)) if costs else LAG_CAP_S,
        "within_one_frame": 2 * close / max(total, 1),
        "iou": close / max(total - close, 1),
    }


def match_lags(seen: np.ndarray, heard: np.ndarray) -> list[float]:
    """Lags (heard minus seen, in seconds) of a one-to-one pairing, nearest first, none over LAG_CAP_S."""
    pairs = sorted((abs(b - a), i, j) for i, a in enumerate(seen) for j, b in enumerate(heard))
    used_seen: set[int] = set()
    used_heard: set[int] = set()
    lags = []
    for lag, i, j in pairs:
        if lag <= LAG_CAP_S and i not in used_seen and j not in used_heard:
            used_seen.add(i)
            used_heard.add(j)
            lags.append(float(heard[j] - seen[i]))
    return lags


# Mouths


def mouth_opening(video: np.ndarray) -> np.ndarray:
    """How far the mouth is open, in pixels of full darkness: float64 [F].

    The mouth is what is darker, in green light, than the skin around it, within the lower half of the face. A closed
    mouth's line counts too, as a constant.
    """
    region = video[:, 34:48, 24:40, 1].astype(np.float64)
    skin = np.percentile(region, 75)
    return np.clip(skin - 15 - region, 0, None).sum(axis=(1, 2)) / max(skin, 1)


def loudness(audio: np.ndarray, fps: float | str, num_frames: int, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """RMS ** 0.7 around each frame's moment, in a Hann window two frames wide: float64 [num_frames]."""
    level = envelope(audio, sample_rate, 2 / float(fps))
    at = np.round(np.arange(num_frames) / float(fps) * ENVELOPE_RATE).astype(int)
    return level[at.clip(max=len(level) - 1)] ** 0.7


def mouth_correlation(video: np.ndarray, audio: np.ndarray, fps: float | str, sample_rate: int = SAMPLE_RATE) -> float:
    """Pearson's r at zero lag between mouth and loudness; 0 where either hardly changes."""
    mouth, level = mouth_opening(video), loudness(audio, fps, len(video), sample_rate)
    if mouth.std() < 0.5 or level.std() < 1e-3:
        return 0.0
    return float(np.corrcoef(mouth, level)[0, 1])


# Obedience to the captions


def _nearest_paint(colour: np.ndarray) -> str:
    """The paint of the nearest hue."""
    hues = {name: colorsys.rgb_to_hsv(*np.array(paint) / 255)[0] for name, paint in PAINTS.items()}
    hue = colorsys.rgb_to_hsv(*np.asarray(colour) / 255)[0]
    return min(hues, key=lambda name: abs((hues[name] - hue + 0.5) % 1 - 0.5))


def ball_colour(video: np.ndarray) -> str:
    """The nearest of COLOURS to the ball's, or "" where there is no ball."""
    weight_FHW = _ball_weight(video) ** 2
    if not weight_FHW.any():
        return ""
    return _nearest_paint(np.einsum("fhw,fhwc->c", weight_FHW, video[:, : int(FLOOR_Y)]) / weight_FHW.sum())


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
    return _impact_classifier()(_timbre(audio)) if is_audible(audio) else ""


def nearest_voice(audio: np.ndarray) -> str:
    """The voice that speech (16 kHz) sounds most like, or "" in silence."""
    return _voice_classifier()(_timbre(audio)) if is_audible(audio) else ""


def is_audible(audio: np.ndarray) -> bool:
    """Whether anything is louder than -54 dB."""
    return bool(envelope(audio, SAMPLE_RATE).max() > 2e-3)


def word_count(audio: np.ndarray, sample_rate: int = SAMPLE_RATE) -> int:
    """How many bursts of speech there are."""
    return len(speech_bursts(envelope(audio, sample_rate)))


def speech_bursts(level: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each burst in an envelope: louder than a tenth of the loudest, over 60 ms long, at
    least 40 ms apart."""
    if level.max(initial=0) < 2e-3:
        return []
    loud = np.flatnonzero(level > level.max() / 10)
    bursts = np.split(loud, np.flatnonzero(np.diff(loud) > 0.04 * ENVELOPE_RATE) + 1)
    return [(burst[0], burst[-1]) for burst in bursts if burst[-1] - burst[0] > 0.06 * ENVELOPE_RATE]


def bootstrap_interval(values: Sequence[float], seed: int, share: float = 0.95) -> tuple[float, float]:
    """The interval that holds `share` of the means of 2,000 resamplings of `values`."""
    values = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


# Features and classifiers


@dataclass(frozen=True)
class _NearestCentroid:
    """The class whose mean is nearest, with features weighed by their common spread within the classes."""

    names: tuple[str, ...]
    centroids: np.ndarray
    precision: np.ndarray

    @classmethod
    def fit(cls, features: dict[str, list[np.ndarray]], shrinkage: float) -> _NearestCentroid:
        groups = [np.stack(group) for group in features.values()]
        centroids = np.stack([group.mean(axis=0) for group in groups])
        spread = np.cov(np.concatenate([group - group.mean(axis=0) for group in groups]).T)
        mean_variance = np.trace(spread) / len(spread)
        spread = (1 - shrinkage) * spread + shrinkage * mean_variance * np.eye(len(spread))
        return cls(tuple(features), centroids, np.linalg.inv(spread))

    def __call__(self, feature: np.ndarray) -> str:
        offset = feature - self.centroids
        return self.names[int(np.einsum("nd,de,ne->n", offset, self.precision, offset).argmin())]


@cache
def mel_filters(num_mels: int = 64, n_fft: int = 1024, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Triangles evenly spaced in mel (HTK): float64 [num_mels, n_fft // 2 + 1]."""
    top = 2595 * np.log10(1 + sample_rate / 1400)
    edges = 700 * (10 ** (np.linspace(0, top, num_mels + 2) / 2595) - 1)
    frequency = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.clip(np.minimum((frequency - low) / (centre - low), (high - frequency) / (high - centre)), 0, None)


def power_frames(audio: np.ndarray, n_fft: int = 1024, hop: int = 160) -> np.ndarray:
    """Power spectra of centred Hann windows: float64 [frames, n_fft // 2 + 1]."""
    padded = np.pad(np.asarray(audio, dtype=np.float64), n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(n_fft + 1)[:-1])) ** 2


def _loud_frames(audio: np.ndarray) -> np.ndarray:
    """Power spectra of the frames within 20 dB of the loudest."""
    power = power_frames(audio)
    total = power.sum(axis=1)
    return power[total > 0.01 * total.max()]


def _timbre(audio: np.ndarray) -> np.ndarray:
    """Mean over the loud frames of the log spectrum in 32 bands, level removed: float64 [32].

    The bands are fine enough to hold the harmonics of high voices, and stay measurable after a mel vocoder, in which
    the pitch of a deep voice is lost.
    """
    mel = (_loud_frames(audio) @ mel_filters().T).reshape(-1, 32, 2).sum(axis=2)
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
) -> _NearestCentroid:
    """Fit on `clips` rendered clips of each class that `field` of their scenes names."""
    groups: dict[str, list[np.ndarray]] = {name: [] for name in names}
    seed = _FIT_SEED
    while min(map(len, groups.values())) < clips:
        scene = sample_scene(np.random.default_rng(seed), kind)
        seed += 1
        group = groups[getattr(scene, field)]
        if len(group) < clips:
            group.append(features(make(scene)))
    return _NearestCentroid.fit(groups, shrinkage=0.2)


@cache
def _hair_classifier() -> _NearestCentroid:
    return _fit("face", HAIR_COLOURS, "hair", _hair_features, scene_video, 12)


@cache
def _floor_classifier() -> _NearestCentroid:
    return _fit("ball", MATERIALS, "material", _floor_features, scene_video, 8)


@cache
def _impact_classifier() -> _NearestCentroid:
    return _fit("ball", MATERIALS, "material", _timbre, scene_audio, 12)


@cache
def _voice_classifier() -> _NearestCentroid:
    return _fit("face", tuple(PERSON_OF_VOICE), "voice", _timbre, scene_audio, 24)
