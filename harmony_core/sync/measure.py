"""How well sound and picture of a clip agree in time. Numpy and Pillow only; works on any video with sound.

Time grows with the length of a clip, memory hardly: pictures are looked at one by one (picture.py), the sound becomes
two curves (sound.py), and both are compared at every lag (agreement.py).

Shape suffixes: F frames, H height, W width, C audio channels, N samples, T points of an audio curve.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from . import MAX_LAG_S
from .agreement import Agreement, agree, clipped
from .confidence import confidence
from .picture import PictureCurves, picture_curves
from .sound import CURVE_RATE, loudness, onset_strength, smooth

MIN_FRAMES = 8
SURE = 0.5  # confidence from which a lag is told
SILENCE = 2e-5  # of full scale: below the smallest step of 16-bit sound
CANCELLED = 0.3  # a mix this much quieter than its loudest channel has lost it
NEIGHBOURHOOD_S = 4.0  # in which an event must stand out


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """What `measure` found.

    `lag_ms` is None with `reason` set where nothing can be measured or told. Positive: the sound is late.
    `lag_confidence` is 0..1, calibrated on known clips: below `SURE` no lag is told. Lags were sought within
    `max_lag_ms` either way. `basis` names what agrees best: starting, turning, bouncing or opening (picture.py).
    `motion`, `video_strength` [F] are at frame times, `loudness` [T] at `CURVE_RATE` a second; event times are seconds.
    """

    lag_ms: float | None
    lag_confidence: float
    max_lag_ms: float
    basis: str
    reason: str
    av_align: float | None
    video_events: tuple[float, ...]
    audio_events: tuple[float, ...]
    fps: float
    duration_s: float
    motion: np.ndarray
    video_strength: np.ndarray
    loudness: np.ndarray

    def to_dict(self) -> dict:
        """The numbers without the curves, for JSON."""
        names = ("lag_ms", "lag_confidence", "basis", "reason", "av_align", "video_events", "audio_events", "fps")
        facts = {name: getattr(self, name) for name in (*names, "duration_s")}
        return facts | {"range_ms": [-self.max_lag_ms, self.max_lag_ms]}


def measure(
    frames: Iterable[np.ndarray],
    fps: float | Fraction,
    samples: np.ndarray,
    sample_rate: int,
    max_lag_s: float = MAX_LAG_S,
) -> SyncReport:
    """Lag of the sound behind the picture and the AV-Align score.

    AV-Align is Yariv et al.'s (2023) intersection over union of sound onsets and motion peaks that lie within one
    frame of each other; motion is measured here by differences of frames instead of optical flow, and reversals of
    motion count as peaks. A mouth has no clear onsets, so speech in sync scores lower than impacts in sync.

    Args:
        frames: uint8 [F,H,W,3], or pictures one by one.
        samples: float [C,N] or [N].
        max_lag_s: lags are sought within this, and within a third of the clip.
    """
    fps = float(fps)
    samples_N = _mixed(np.atleast_2d(samples))
    picture = picture_curves(frames, fps)
    onset_T, loudness_T = onset_strength(samples_N, sample_rate), loudness(samples_N, sample_rate)
    strength_F = _strength(picture, fps)
    video_events, audio_events = video_event_times(strength_F, fps), audio_event_times(onset_T)

    found, sure, reason = None, 0.0, _why_not(picture, samples_N)
    if not reason:
        found = agree(picture, fps, onset_T, loudness_T, max_lag_s)
        sure = confidence(found.evidence)
        reason = "" if sure >= SURE else _why_unsure(found)
    return SyncReport(
        lag_ms=round(1000 * found.lag_s, 1) if found and not reason else None,
        lag_confidence=round(sure, 3),
        max_lag_ms=1000 * (found.max_lag_s if found else max_lag_s),
        basis=found.basis if found else "",
        reason=reason,
        av_align=av_align(audio_events, video_events, 1 / fps),
        video_events=video_events,
        audio_events=audio_events,
        fps=fps,
        duration_s=len(picture.motion) / fps,
        motion=picture.motion,
        video_strength=strength_F,
        loudness=loudness_T,
    )


def video_event_times(strength_F: np.ndarray, fps: float) -> tuple[float, ...]:
    """Seconds at which something happens in the picture; neighbouring frames are one event."""
    peaks = _peaks(strength_F, distance=2, prominence=0.25, reach=round(NEIGHBOURHOOD_S * fps))
    return tuple(round(index / fps, 4) for index in peaks)


def audio_event_times(onset_T: np.ndarray) -> tuple[float, ...]:
    """Seconds of sound onsets, at least 60 ms apart."""
    distance, reach = round(0.06 * CURVE_RATE), round(NEIGHBOURHOOD_S * CURVE_RATE)
    peaks = _peaks(smooth(onset_T, 0.01 * CURVE_RATE), distance=distance, prominence=0.06, reach=reach)
    return tuple(round(index / CURVE_RATE, 4) for index in peaks)


def av_align(audio_events: tuple[float, ...], video_events: tuple[float, ...], window_s: float) -> float | None:
    """Intersection over union of two sorted lists of event times; None if both are empty.

    Each event has one partner at most. (Yariv et al. let one event of the picture match several onsets, which can
    pass 1.)
    """
    if not audio_events and not video_events:
        return None
    matched = heard = seen = 0
    while heard < len(audio_events) and seen < len(video_events):
        apart = audio_events[heard] - video_events[seen]
        if abs(apart) <= window_s + 1e-6:
            matched += 1
        heard += apart <= window_s + 1e-6
        seen += apart >= -window_s - 1e-6
    return matched / (len(audio_events) + len(video_events) - matched)


def _mixed(samples_CN: np.ndarray) -> np.ndarray:
    """The mean of the channels, or the loudest of them where they cancel, [N]."""
    samples_CN = samples_CN.astype(np.float32, copy=False)
    mix_N = samples_CN.mean(0)
    power_C = np.einsum("cn,cn->c", samples_CN, samples_CN)
    return samples_CN[power_C.argmax()] if mix_N @ mix_N < CANCELLED**2 * power_C.max() else mix_N


def _strength(picture: PictureCurves, fps: float) -> np.ndarray:
    """How much happens in each frame, [F]."""
    starting_F = np.diff(picture.motion, prepend=picture.motion[:1]).clip(min=0)
    returning_F = np.split(picture.turning, 2, axis=1)[0].mean(1)
    weights = ((picture.bouncing[:, 0], 1), (returning_F, 1), (starting_F, 0.5))
    return sum(weight * _above_median(clipped(curve_F[:, None], fps)[:, 0]) for curve_F, weight in weights)


def _why_not(picture: PictureCurves, samples_N: np.ndarray) -> str:
    if len(picture.motion) < MIN_FRAMES:
        return f"the video has {len(picture.motion)} frames; at least {MIN_FRAMES} are needed"
    if np.abs(samples_N).max(initial=0) < SILENCE:
        return "the sound is silent"
    if not picture.motion.any():
        return "the picture does not move"
    return ""


def _why_unsure(found: Agreement) -> str:
    within = f"within {1000 * found.max_lag_s:.0f} ms"
    if found.at_edge:
        return f"picture and sound agree best at the end of the range, {within}; a wider one may find more"
    if found.evidence["top"] < 1.25 * found.evidence["chance"]:
        return f"picture and sound agree at no lag {within} better than by chance"
    if found.evidence["margin"] < 0.25:
        return f"several lags {within} fit about equally well"
    return "too little happens in picture and sound to be sure of a lag"


def _above_median(curve_F: np.ndarray) -> np.ndarray:
    above_F = (curve_F - np.median(curve_F)).clip(min=0) if len(curve_F) else curve_F
    return above_F / max(above_F.max(initial=0), 1e-12)


def _peaks(curve_T: np.ndarray, distance: int, prominence: float, reach: int) -> list[int]:
    """Local maxima, each `prominence` of the curve's height above what is around it within `reach`, `distance` apart,
    the stronger first."""
    top = curve_T.max(initial=0)
    if top <= 1e-9:
        return []
    padded = np.concatenate([[-1.0], curve_T, [-1.0]])
    high_T = curve_T >= prominence * top
    maxima = np.flatnonzero(high_T & (padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]))
    free_T = np.ones(len(curve_T), bool)
    kept: list[int] = []
    for index in sorted(maxima.tolist(), key=lambda i: -curve_T[i]):
        if free_T[index] and curve_T[index] - _shoulder(curve_T, index, reach) >= prominence * top:
            kept.append(index)
            free_T[max(0, index - distance + 1) : index + distance] = False
    return sorted(kept)


def _shoulder(curve_T: np.ndarray, index: int, reach: int) -> float:
    """The higher of the two lowest points between a peak and the nearest higher point on either side."""
    lows = []
    for side in (curve_T[max(0, index - reach) : index + 1][::-1], curve_T[index : index + reach + 1]):
        higher = np.flatnonzero(side > side[0])
        lows.append(side[: higher[0] if len(higher) else len(side)].min())
    return max(lows)
