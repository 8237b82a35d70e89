"""At which lag do curves of the picture agree with curves of the sound, and could that be chance?

Every curve of the picture is clipped at its third highest moment or so, and correlated with the sound's at every lag:
many small events outweigh one large one, and a region counts by its agreement, not by its size. The answer is then
asked again with a part of the clip left out, and with the sound turned round, which agrees by chance alone.

    turning   the picture goes back where it was           with sound onsets
    bouncing  motion changes speed or direction            with sound onsets
    starting  a region leaves the light that it had        with sound onsets
    opening   how far a region is from the light it had    with loudness

Shape suffixes: F frames, T points of a sound's curve, L lags, K curves, B parts of the clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .picture import PictureCurves
from .sound import CURVE_RATE, smooth

PARTS = 4
SURROGATES = 8
EVENT_S = 0.4  # a curve's moments are told apart by this much
LOUDNESS_S = 0.35  # loudness is taken against its mean over about this
# Things are struck where sudden changes agree this well, of how openings do, and better the more onsets fill the time.
STRUCK, STRUCK_FILLED = 0.55, 10.0
STARTING_COUNTS = 0.8  # in the choice of the kind that is named
SHARP = 8  # power by which the curves of a kind are joined: near their maximum
LEAST_VARIANCE_SEEN, LEAST_VARIANCE_HEARD = 0.15, 0.05  # in what overlaps, of that of the whole


@dataclass(frozen=True)
class Agreement:
    """`lag_s` of the best lag within `max_lag_s`, the sound's delay behind the picture, and whether it is the last one;
    `basis`, the kind of curve that agrees best there; `evidence`, by name, what tells a right lag from a wrong one."""

    lag_s: float
    max_lag_s: float
    at_edge: bool
    basis: str
    evidence: dict[str, float]


@dataclass(frozen=True)
class _Heard:
    """One curve of the sound at every lag: `value` [L,F] at the time of each frame, 0 outside `first` [L] to `last`."""

    value: np.ndarray
    first: np.ndarray
    last: np.ndarray


def agree(
    picture: PictureCurves, fps: float, onset_T: np.ndarray, loudness_T: np.ndarray, max_lag_s: float
) -> Agreement:
    """The lag within `max_lag_s` at which picture and sound agree best."""
    count = len(picture.motion)
    reach = min(round(max_lag_s * CURVE_RATE), round(count / fps * CURVE_RATE / 3))
    seen = _seen(picture, fps)
    sound = {
        "onset": clipped(onset_T[:, None], CURVE_RATE)[:, 0],
        "loudness": loudness_T - smooth(loudness_T, LOUDNESS_S * CURVE_RATE),
    }
    sound = {name: _standard(smooth(curve_T, 0.5 / fps * CURVE_RATE)) for name, curve_T in sound.items()}
    heard = {name: _heard(curve_T, reach, count, fps) for name, curve_T in sound.items()}
    sums = {name: _sums(curves_FK, heard[_partner(name)]) for name, curves_FK in seen.items()}
    kinds_L = {name: _joined(name, _correlation(parts, None)) for name, parts in sums.items()}
    score_L = _score(kinds_L)
    best, gap = int(score_L.argmax()), max(round(1.25 * CURVE_RATE / fps), round(0.06 * CURVE_RATE))
    without = []
    for part in range(PARTS):
        part_L = _score({name: _joined(name, _correlation(parts, part)) for name, parts in sums.items()})
        without.append(_margin(part_L, best, gap))
    chance = []
    for turn in range(SURROGATES):
        turned = {name: np.roll(curve_T[::-1], len(curve_T) * turn // SURROGATES) for name, curve_T in sound.items()}
        other = {name: _heard(curve_T, reach, count, fps) for name, curve_T in turned.items()}
        kinds = {n: _joined(n, _correlation(_sums(c, other[_partner(n)], 1), None)) for n, c in seen.items()}
        chance.append(_score(kinds).max())
    fine_L, basis = _finer(kinds_L, score_L, best, gap, onset_T)
    fine = int(fine_L.argmax())
    evidence = {
        "top": float(score_L[best]),
        "margin": _margin(score_L, best, gap),
        "least_margin": min(without),
        "chance": float(np.mean(chance)),
        "most_chance": float(np.max(chance)),
        "best_kind": float(max(curve_L[best] for curve_L in kinds_L.values())),
    }
    return Agreement(
        lag_s=float(fine - reach + _between(fine_L, fine)) / CURVE_RATE,
        max_lag_s=reach / CURVE_RATE,
        at_edge=best in (0, len(score_L) - 1),
        basis=basis.split()[0],
        evidence=evidence,
    )


def _seen(picture: PictureCurves, fps: float) -> dict[str, np.ndarray]:
    """Kinds of curves of the picture, clipped and standardised, [F,K] each; raw and steady ones count apart."""
    kinds = {}
    for name in ("turning", "bouncing"):
        for way, curves_FK in _ways(getattr(picture, name)):
            kinds[f"{name} {way}"] = _standard(np.sqrt(clipped(curves_FK, fps)))
    for way, curves_FK in _ways(picture.opening):
        size_FK = np.abs(curves_FK)
        kinds[f"opening {way}"] = _standard(np.sign(curves_FK) * clipped(size_FK, fps))
        starting_FK = np.diff(size_FK, axis=0, prepend=size_FK[:1]).clip(min=0)
        kinds[f"starting {way}"] = _standard(np.sqrt(clipped(starting_FK, fps)))
    return kinds


def _ways(curves_FK: np.ndarray) -> zip:
    return zip(("raw", "steady"), np.split(curves_FK, 2, axis=1), strict=True)


def _partner(kind: str) -> str:
    return "loudness" if kind.startswith("opening") else "onset"


def clipped(curves_FK: np.ndarray, rate: float) -> np.ndarray:
    """Each curve, at most as high as its third highest moment, in long clips a later one; not far below the second,
    since two may be all there are."""
    length = max(1, round(EVENT_S * rate))
    moments = -(-len(curves_FK) // length)
    padded = np.pad(curves_FK, ((0, moments * length - len(curves_FK)), (0, 0)))
    tops = np.sort(padded.reshape(moments, length, -1).max(1), axis=0)[::-1]
    second, third, later = (tops[min(place, moments - 1)] for place in (1, 2, 2 + moments // 50))
    limit_K = np.maximum(np.maximum(later, third / 4), second / 3)
    return np.minimum(curves_FK, np.where(limit_K > 0, limit_K, tops[0]))


def _standard(curves: np.ndarray) -> np.ndarray:
    spread = curves.std(0)
    return ((curves - curves.mean(0)) / np.maximum(spread, 1e-9) * (spread > 1e-9)).astype(np.float32)


def _heard(curve_T: np.ndarray, reach: int, count: int, fps: float) -> _Heard:
    """Beyond the clip nothing is known, which is told apart from silence."""
    positions_LF = np.arange(-reach, reach + 1)[:, None] + np.arange(count) / fps * CURVE_RATE
    value_LF = np.interp(positions_LF, np.arange(len(curve_T)), curve_T, left=0, right=0).astype(np.float32)
    first_L = (positions_LF < 0).sum(1)
    return _Heard(value_LF, first_L, np.maximum((positions_LF <= len(curve_T) - 1).sum(1), first_L))


def _sums(seen_FK: np.ndarray, heard: _Heard, parts: int = PARTS) -> tuple[np.ndarray, ...]:
    """Of each part of the clip, over what overlaps at each lag: sums of products, of either side, of their squares, and
    of 1: [B,L,K] or [B,L,1]."""
    before = np.pad(np.cumsum(np.stack([seen_FK, seen_FK**2]), axis=1, dtype=np.float64), ((0, 0), (1, 0), (0, 0)))
    edges = np.linspace(0, len(seen_FK), parts + 1).round().astype(int)
    found = []
    for start, end in pairwise(edges):
        first_L, last_L = heard.first.clip(start, end), heard.last.clip(start, end)
        value_LF = heard.value[:, start:end]
        seen, seen_squared = before[:, last_L] - before[:, first_L]
        sides = (value_LF.sum(1), (value_LF**2).sum(1), last_L - first_L)
        found.append((value_LF @ seen_FK[start:end], seen, seen_squared, *(side[:, None] for side in sides)))
    return tuple(np.stack(sums) for sums in zip(*found, strict=True))


def _correlation(sums: tuple[np.ndarray, ...], without: int | None) -> np.ndarray:
    """Of what overlaps at each lag, less where less of the clip does, [L,K]; `without` leaves a part out."""
    product, seen, seen_squared, heard, heard_squared, count = (
        part.sum(0) - (0 if without is None else part[without]) for part in sums
    )
    count = np.maximum(count, 1)
    covariance = product / count - heard * seen / count**2
    varied = np.maximum(seen_squared / count - (seen / count) ** 2, LEAST_VARIANCE_SEEN)
    varied = varied * np.maximum(heard_squared / count - (heard / count) ** 2, LEAST_VARIANCE_HEARD)
    return covariance / np.sqrt(varied) * np.sqrt(count / count.max())


def _joined(kind: str, correlation_LK: np.ndarray) -> np.ndarray:
    """One curve [L] of a kind's: near their maximum, more where several agree."""
    found = np.abs(correlation_LK) if kind.startswith("opening") else np.maximum(correlation_LK, 0)
    return (found**SHARP).sum(1) ** (1 / SHARP)


def _score(kinds_L: dict[str, np.ndarray]) -> np.ndarray:
    return sum(curve_L**2 for curve_L in kinds_L.values())


def _finer(
    kinds_L: dict[str, np.ndarray], score_L: np.ndarray, best: int, gap: int, onset_T: np.ndarray
) -> tuple[np.ndarray, str]:
    """The curve whose maximum is the lag, and the kind that agrees best.

    Loudness of what rings is late behind the blow: where things are struck, sudden changes alone say when. Whatever
    moves or opens also starts; starting is named where there is little else.
    """
    sudden = {name: curve_L for name, curve_L in kinds_L.items() if _partner(name) == "onset"}
    opening = max(curve_L[best] for name, curve_L in kinds_L.items() if name not in sudden)
    filled = onset_T.sum() ** 2 / max((onset_T**2).sum(), 1e-9) / len(onset_T)
    struck = max(curve_L[best] for curve_L in sudden.values()) > (STRUCK + STRUCK_FILLED * filled) * opening
    heights = {name: float(curve_L[best]) for name, curve_L in (sudden if struck else kinds_L).items()}
    for name in heights:
        if name.startswith("starting"):
            heights[name] *= STARTING_COUNTS
    basis = max(heights, key=lambda name: heights[name])
    near_L = np.abs(np.arange(len(score_L)) - best) <= gap
    return np.where(near_L, _score(sudden), 0) if struck else score_L, basis


def _margin(score_L: np.ndarray, best: int, gap: int) -> float:
    """How far the lags near `best` stand above the others, of their height."""
    near = np.abs(np.arange(len(score_L)) - best) <= gap
    top, other = score_L[near].max(), score_L[~near].max(initial=0)
    return float((top - other) / max(top, 1e-9))


def _between(score_L: np.ndarray, best: int) -> float:
    """Where between the points a parabola through three of them is highest."""
    if not 0 < best < len(score_L) - 1:
        return 0.0
    before, top, after = score_L[best - 1 : best + 2]
    return 0.5 * (before - after) / min(before - 2 * top + after, -1e-12)
