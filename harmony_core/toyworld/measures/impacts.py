"""Impacts: when the ball is seen to turn round, when a sound is heard to set in, and how well both agree."""

from __future__ import annotations

import numpy as np

from ..pictures import FLOOR_Y, GRAVITY
from .spectra import ENVELOPE_RATE, envelope

LAG_CAP_S = 0.5


def ball_track(video: np.ndarray) -> np.ndarray:
    """The row of the ball's centre in pixels from the top: float64 [F], or [0] where there is no ball.

    The ball is what is saturated above the floor, each pixel weighted by how much it is. Frames without one are
    interpolated; if more than half of the frames lack one, the clip shows no ball.
    """
    weight_FHW = ball_weight(video)
    mass = weight_FHW.sum(axis=(1, 2))
    seen = mass > 0.25 * np.median(mass)
    if seen.mean() < 0.5:
        return np.zeros(0)
    rows = np.arange(weight_FHW.shape[1]) + 0.5
    centre = (weight_FHW.sum(axis=2) @ rows)[seen] / mass[seen]
    return np.interp(np.arange(len(video)), np.flatnonzero(seen), centre)


def ball_weight(video: np.ndarray) -> np.ndarray:
    """How much each pixel above the floor is the ball: float64 [F, H, W]."""
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
