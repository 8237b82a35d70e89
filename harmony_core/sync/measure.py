"""How well sound and picture of a clip agree in time. Numpy only; works on any video with sound.

Things that sound move in different ways, so four pairs of curves are correlated and the clear ones outweigh the rest:

    starting  motion that becomes more             with sound onsets   flashes, cuts, things that appear
    turning   the picture goes back where it was   with sound onsets   claps, anything that beats
    bouncing  motion changes speed or direction    with sound onsets   impacts
    opening   the picture's main way of varying    with loudness       mouths: wide means loud

Shape suffixes: F frames, H height, W width, C audio channels, N samples, T points of an audio curve, L lags,
K samples of a window, P pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

CURVE_RATE = 200  # points a second of the audio curves: lags come in steps of 5 ms, refined by a parabola
MAX_LAG_S = 0.5
MIN_FRAMES = 8
WORKING_SIDE = 64  # frames are averaged down to about this, which also removes noise
GUESS = 0.25  # noise on both sides passes this confidence one time in ten
MOTION_GATE = 3 / 255  # changes of a pixel below this are compression noise
SILENCE = 1e-3  # RMS, -60 dB of full scale
ONSET_WINDOW_S = 0.016
LOUDNESS_WINDOW_S = 0.025


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """What `measure` found.

    `lag_ms` is None with `reason` set where nothing can be measured. Positive: the sound is late.
    `lag_confidence` is 0..1: how far the correlation at this lag stands above that at any other; under `GUESS` a guess.
    `basis` names the pair of curves that agrees best. `motion`, `video_strength` [F] are at frame times, `onset`,
    `loudness` [T] at `CURVE_RATE` a second; event times are seconds.
    """

    lag_ms: float | None
    lag_confidence: float
    basis: str
    reason: str
    av_align: float | None
    video_events: tuple[float, ...]
    audio_events: tuple[float, ...]
    fps: float
    duration_s: float
    motion: np.ndarray
    video_strength: np.ndarray
    onset: np.ndarray
    loudness: np.ndarray

    def to_dict(self) -> dict:
        """The numbers without the curves, for JSON."""
        names = ("lag_ms", "lag_confidence", "basis", "reason", "av_align", "video_events", "audio_events", "fps")
        return {name: getattr(self, name) for name in (*names, "duration_s")}


def measure(frames: np.ndarray, fps: float | Fraction, samples: np.ndarray, sample_rate: int) -> SyncReport:
    """Lag of the sound behind the picture and the AV-Align score.

    AV-Align is Yariv et al.'s (2023) intersection over union of sound onsets and motion peaks that lie within one
    frame of each other; motion is measured here by differences of frames instead of optical flow, and reversals of
    motion count as peaks. A mouth has no clear onsets, so speech in sync scores lower than impacts in sync.

    Args:
        frames: uint8 [F,H,W,3].
        samples: float [C,N] or [N].
    """
    fps = float(fps)
    luma_FHW = _luma(frames)
    samples_N = np.atleast_2d(samples).mean(0).astype(np.float32)
    motion_F, turning_F = _motion_and_turning(luma_FHW)
    starting_F, bouncing_F = np.diff(motion_F, prepend=motion_F[0]).clip(min=0), _bouncing(luma_FHW)
    strength_F = _above_median(bouncing_F) + _above_median(turning_F) + 0.5 * _above_median(starting_F)
    onset_T, loudness_T = onset_strength(samples_N, sample_rate), loudness(samples_N, sample_rate)
    video_events, audio_events = video_event_times(strength_F, fps), audio_event_times(onset_T)

    lag_s, confidence, basis, reason = None, 0.0, "", _why_not(luma_FHW, motion_F, samples_N)
    if not reason:
        pairs = {
            "starting": _correlation(starting_F, onset_T, fps),
            "turning": _correlation(turning_F, onset_T, fps),
            "bouncing": _correlation(bouncing_F, onset_T, fps),
            "opening": np.abs(_correlation(_opening(luma_FHW), loudness_T, fps)),
        }
        lag_s, confidence, basis = _best_lag(pairs, fps)
        if lag_s is None:
            reason = f"picture and sound agree at no lag within {MAX_LAG_S * 1000:.0f} ms"
    return SyncReport(
        lag_ms=None if lag_s is None else round(1000 * lag_s, 1),
        lag_confidence=round(confidence, 3),
        basis=basis,
        reason=reason,
        av_align=av_align(audio_events, video_events, 1 / fps),
        video_events=video_events,
        audio_events=audio_events,
        fps=fps,
        duration_s=len(frames) / fps,
        motion=motion_F,
        video_strength=strength_F,
        onset=onset_T,
        loudness=loudness_T,
    )


def motion_energy(frames: np.ndarray) -> np.ndarray:
    """Mean change of brightness from the frame before, [F,H,W,3] -> [F]; the first repeats the second."""
    return _motion_and_turning(_luma(frames))[0]


def onset_strength(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Spectral flux: how much louder each frequency becomes, summed and squared, which favours the sudden.

    [N] -> [T] at `CURVE_RATE`, maximum 1.
    """
    size = max(16, round(ONSET_WINDOW_S * sample_rate))
    windows_TK = _windows(samples, sample_rate, size) * np.hanning(size).astype(np.float32)
    spectrum_TK = np.sqrt(np.abs(np.fft.rfft(windows_TK, axis=1)))
    rise_T = np.diff(spectrum_TK, axis=0, prepend=spectrum_TK[:1]).clip(min=0).sum(1) ** 2
    return rise_T / max(rise_T.max(), 1e-12)


def loudness(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Short-time RMS to the power 0.6 (Stevens' law), [N] -> [T] at `CURVE_RATE`, maximum 1."""
    windows_TK = _windows(samples, sample_rate, round(LOUDNESS_WINDOW_S * sample_rate))
    loud_T = np.sqrt((windows_TK**2).mean(1)) ** 0.6
    return loud_T / max(loud_T.max(), 1e-12)


def video_event_times(strength_F: np.ndarray, fps: float) -> tuple[float, ...]:
    """Seconds at which something happens in the picture; neighbouring frames are one event."""
    return tuple(round(index / fps, 4) for index in _peaks(strength_F, distance=2, prominence=0.25))


def audio_event_times(onset_T: np.ndarray) -> tuple[float, ...]:
    """Seconds of sound onsets, at least 60 ms apart."""
    peaks = _peaks(_smooth(onset_T, 0.01 * CURVE_RATE), distance=round(0.06 * CURVE_RATE), prominence=0.06)
    return tuple(round(index / CURVE_RATE, 4) for index in peaks)


def av_align(audio_events: tuple[float, ...], video_events: tuple[float, ...], window_s: float) -> float | None:
    """Intersection over union of two sorted lists of event times; None if both are empty.

    Each event has one partner at most. (Yariv et al. let one event of the picture match several onsets, which can
    pass 1.)
    """
    if not audio_events and not video_events:
        return None
    matched, heard, seen = 0, list(audio_events), list(video_events)
    while heard and seen:
        if abs(heard[0] - seen[0]) <= window_s + 1e-6:
            matched += 1
            heard.pop(0)
            seen.pop(0)
        else:
            (heard if heard[0] < seen[0] else seen).pop(0)
    return matched / (len(audio_events) + len(video_events) - matched)


def _luma(frames: np.ndarray) -> np.ndarray:
    """[F,H,W,3] uint8 -> [F,h,w] in 0..1, averaged over blocks."""
    block = max(1, min(frames.shape[1:3]) // WORKING_SIDE)
    height, width = (side // block * block for side in frames.shape[1:3])
    small = []
    for picture_HWC in frames:
        luma_HW = picture_HWC[:height, :width].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
        small.append(luma_HW.reshape(height // block, block, width // block, block).mean((1, 3)))
    return np.stack(small)


def _motion_and_turning(luma_FHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Motion [F] into each frame; turning [F], how much shorter the way past each frame is than the way through it."""

    def distance(step: int) -> np.ndarray:
        change_FHW = np.abs(luma_FHW[step:] - luma_FHW[:-step])
        return (change_FHW * (change_FHW > MOTION_GATE)).mean((1, 2))

    motion_F, turning_F = np.zeros((2, len(luma_FHW)), np.float32)
    if len(luma_FHW) > 1:
        motion_F[1:] = distance(1)
        motion_F[0] = motion_F[1]  # unknown: a false rest here would meet the quiet start of many sounds
    if len(luma_FHW) > 2:
        turning_F[1:-1] = (motion_F[1:-1] + motion_F[2:] - distance(2)).clip(min=0)
        turning_F[[0, -1]] = np.median(turning_F[1:-1])
    return motion_F, turning_F


def _opening(luma_FHW: np.ndarray) -> np.ndarray:
    """Score of each frame on the first principal component of the pictures, [F]; its sign is arbitrary."""
    centred_FP = (luma_FHW - luma_FHW.mean(0)).reshape(len(luma_FHW), -1)
    values_F, vectors_FF = np.linalg.eigh(centred_FP @ centred_FP.T)
    return (vectors_FF[:, -1] * np.sqrt(max(values_F[-1], 0))).astype(np.float32)


def _bouncing(luma_FHW: np.ndarray) -> np.ndarray:
    """How suddenly motion changes its speed or direction at each frame, [F].

    Moving something by d changes the picture by a dipole of moment d x area x contrast, however far it goes; things
    that only appear or vanish have none.
    """
    change_FHW = np.diff(luma_FHW, axis=0)
    change_FHW = change_FHW * (np.abs(change_FHW) > MOTION_GATE)
    size_F = np.maximum(np.abs(change_FHW).sum((1, 2)), 1e-9)
    bouncing_F = np.zeros(len(luma_FHW), np.float32)
    for axis, kept in ((1, "fhw,h->f"), (2, "fhw,w->f")):
        position = np.arange(luma_FHW.shape[axis]) / luma_FHW.shape[1]
        centre_F = np.einsum(kept, np.abs(change_FHW), position) / size_F
        moment_F = np.einsum(kept, change_FHW, position) - centre_F * change_FHW.sum((1, 2))
        bouncing_F[1:-1] += np.diff(moment_F) ** 2
    bouncing_F = np.sqrt(bouncing_F)
    if len(luma_FHW) > 2:
        bouncing_F[[0, -1]] = np.median(bouncing_F[1:-1])
    return bouncing_F


def _why_not(luma_FHW: np.ndarray, motion_F: np.ndarray, samples_N: np.ndarray) -> str:
    if len(luma_FHW) < MIN_FRAMES:
        return f"the video has {len(luma_FHW)} frames; at least {MIN_FRAMES} are needed"
    if len(samples_N) == 0 or np.sqrt((samples_N**2).mean()) < SILENCE:
        return "the sound is silent"
    if not motion_F.any():
        return "the picture does not move"
    return ""


def _correlation(video_F: np.ndarray, audio_T: np.ndarray, fps: float) -> np.ndarray:
    """Normalised correlation at every lag, [L]; the middle is lag 0."""
    smooth_T = _smooth(audio_T, 0.5 / fps * CURVE_RATE)  # a frame says no more than this about when
    seen_F, heard_T = _standard(video_F), _standard(smooth_T)
    reach = min(round(MAX_LAG_S * CURVE_RATE), round(len(video_F) / fps * CURVE_RATE / 3))
    positions_LF = np.arange(-reach, reach + 1)[:, None] + np.arange(len(video_F)) / fps * CURVE_RATE
    # Beyond the clip nothing is known: 0, the mean, there favours small lags among equals.
    heard_LF = np.interp(positions_LF, np.arange(len(heard_T)), heard_T, left=0, right=0)
    return heard_LF @ seen_F / len(seen_F)


def _best_lag(pairs_L: dict[str, np.ndarray], fps: float) -> tuple[float | None, float, str]:
    """Lag in seconds, its confidence and the pair that agrees best there; None without a peak inside the range."""
    # The cube lets one clear pair outvote several vague ones.
    score_L = sum(np.maximum(curve_L, 0) ** 3 for curve_L in pairs_L.values()) ** (1 / 3)
    reach = len(score_L) // 2
    inner_L = score_L[1:-1]
    tops = 1 + np.flatnonzero((inner_L > score_L[:-2]) & (inner_L >= score_L[2:]))
    if not len(tops):
        return None, 0.0, ""
    best = tops[score_L[tops].argmax()]
    others = [score_L[i] for i in (*tops, 0, -1) if abs(i % len(score_L) - best) > CURVE_RATE / fps]
    before, top, after = score_L[best - 1 : best + 2]
    lag = best - reach + 0.5 * (before - after) / min(before - 2 * top + after, -1e-12)
    basis = max(pairs_L, key=lambda name: pairs_L[name][best])
    return float(lag) / CURVE_RATE, float(np.clip(top - max([0, *others]), 0, 1)), basis


def _standard(curve_T: np.ndarray) -> np.ndarray:
    return (curve_T - curve_T.mean()) / max(curve_T.std(), 1e-9)


def _windows(samples_N: np.ndarray, sample_rate: int, size: int) -> np.ndarray:
    """[T,size] windows centred at T * sample_rate / CURVE_RATE."""
    count = max(1, len(samples_N) * CURVE_RATE // sample_rate)
    centres_T = np.round(np.arange(count) * sample_rate / CURVE_RATE).astype(int)
    padded_N = np.pad(samples_N, size)
    return padded_N[(centres_T + size - size // 2)[:, None] + np.arange(size)]


def _smooth(curve_T: np.ndarray, sigma: float) -> np.ndarray:
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    inside_T = np.convolve(np.ones(len(curve_T)), kernel)
    return (np.convolve(curve_T, kernel) / inside_T)[reach : reach + len(curve_T)]


def _above_median(curve_F: np.ndarray) -> np.ndarray:
    above_F = (curve_F - np.median(curve_F)).clip(min=0)
    return above_F / max(above_F.max(), 1e-12)


def _peaks(curve_T: np.ndarray, distance: int, prominence: float) -> list[int]:
    """Local maxima, strongest first, each `prominence` of the range above its surroundings and `distance` apart."""
    top = curve_T.max(initial=0)
    if top <= 1e-9:
        return []
    padded = np.concatenate([[-1.0], curve_T, [-1.0]])
    maxima = np.flatnonzero((padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]))
    kept: list[int] = []
    for index in sorted(maxima, key=lambda i: -curve_T[i]):
        if curve_T[index] - _shoulder(curve_T, index) < prominence * top:
            continue
        if all(abs(index - other) >= distance for other in kept):
            kept.append(int(index))
    return sorted(kept)


def _shoulder(curve_T: np.ndarray, index: int) -> float:
    """The higher of the two lowest points between a peak and the nearest higher point on either side."""
    lows = []
    for side in (curve_T[index::-1], curve_T[index:]):
        higher = np.flatnonzero(side > side[0])
        lows.append(side[: higher[0] if len(higher) else len(side)].min())
    return max(lows)
