"""What moves in a picture, region by region, in one pass over the frames. Memory grows by the curves alone.

Each frame is compared with the one before it twice: as it is (raw), and after what the whole picture did, a fade or a
move of the camera, is taken out (steady). Nothing is counted across a cut.

    turning   the picture goes back where it was   impacts, claps, anything that beats
    bouncing  motion changes speed or direction    impacts
    opening   a region becomes lighter or darker   mouths: wide means loud

Shape suffixes: F frames, H height, W width, C colours, K regions, R windows, P pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

WORKING_SIDE = 64  # pixels of the short side that are looked at, which also removes noise
REGION = 8  # pixels of a region's side
WINDOW, WINDOW_STEP = 32, 16  # of the windows in which the centre of motion is followed
QUIET, LOUD = 3 / 255, 10 / 255  # changes of a pixel below a gate between these are noise
CUT_CHANGED, CUT_UNEXPLAINED = 0.3, 0.25  # share of pixels changed, and of the picture's variance, that make a cut
OPENING_S = 0.35  # what opens slower than this is forgotten
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class PictureCurves:
    """Curves at frame times. `turning`, `bouncing`, `opening` hold raw and steady [F,*] side by side, the whole
    picture first in the last two. `motion` [F], the mean change of the whole picture, alone knows `cuts`, frame
    numbers.
    """

    motion: np.ndarray
    turning: np.ndarray
    bouncing: np.ndarray
    opening: np.ndarray
    cuts: tuple[int, ...]


def picture_curves(frames: Iterable[np.ndarray], fps: float) -> PictureCurves:
    """The curves of uint8 pictures [H,W,3], which are read once, one by one."""
    before_HW, previous, count, cuts = None, None, 0, []
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("motion", "turning", "moments", "opening")}
    kept = np.exp(-1 / (fps * OPENING_S))
    for picture_HWC in frames:
        luma_HW, count = _luma(picture_HWC), count + 1
        if before_HW is None:
            before_HW = luma_HW
            continue
        change = np.stack([luma_HW - before_HW, _steady_change(before_HW, luma_HW)])
        gated = _gated(change)
        rows["motion"].append(np.abs(gated[0]).mean())
        whole = change.mean((1, 2))[:, None]  # a cut counts here: it may be a flash
        if _is_cut(change[1], luma_HW):
            cuts.append(count - 1)
            change, gated = np.zeros_like(change), np.zeros_like(gated)
        rows["moments"].append(_moments(gated))
        opening = np.concatenate([whole, _regions(change)], 1)
        rows["opening"].append(opening + kept * rows["opening"][-1] if rows["opening"] else opening)
        if previous is not None:
            rows["turning"].append(_regions(np.minimum(np.abs(previous), np.abs(gated)) * (previous * gated < 0)))
        before_HW, previous = luma_HW, gated
    leaps = np.linalg.norm(np.diff(rows["moments"], axis=0), axis=-1) if count > 2 else []
    motion_F = _from_second_frame(rows["motion"], count)[:, 0]
    motion_F[:1] = motion_F[1:2] if count > 1 else 0  # unknown: a false rest would meet the quiet start of many sounds
    return PictureCurves(
        motion=motion_F,
        turning=_from_second_frame(rows["turning"], count),
        bouncing=_from_second_frame(leaps, count),
        opening=_from_second_frame(rows["opening"], count),
        cuts=tuple(cuts),
    )


def _from_second_frame(values: Sequence[np.ndarray], count: int) -> np.ndarray:
    """[F,*], zero in the first frame and after the last value."""
    flat = np.asarray(values, np.float32).reshape(len(values), -1) if len(values) else np.zeros((0, 2), np.float32)
    return np.pad(flat, ((1, max(0, count - 1 - len(flat))), (0, 0)))[:count]


def _luma(picture_HWC: np.ndarray) -> np.ndarray:
    """uint8 [H,W,3] -> [h,w] in 0..1, the short side at most `WORKING_SIDE`."""
    height, width = picture_HWC.shape[:2]
    shrink = WORKING_SIDE / min(height, width)
    if shrink < 1:
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        picture_HWC = np.asarray(Image.fromarray(np.ascontiguousarray(picture_HWC)).resize(size, Image.Resampling.BOX))
    return picture_HWC.astype(np.float32) @ LUMA / 255


def _steady_change(before_HW: np.ndarray, luma_HW: np.ndarray) -> np.ndarray:
    """The change less what a move of the whole picture and a change of its light explain, [H,W].

    Both are fitted by least squares, three times, pixels that do not fit counting less each time: what a thing in the
    picture does by itself is not explained away by moving everything.
    """
    down_HW, right_HW = np.gradient(before_HW)
    parts_P4 = np.stack([right_HW, down_HW, before_HW - before_HW.mean(), np.ones_like(before_HW)], -1).reshape(-1, 4)
    change_P = (luma_HW - before_HW).ravel()
    weight_P, rest_P = np.ones_like(change_P), change_P
    for _ in range(3):
        weighted_P4 = parts_P4 * weight_P[:, None]
        normal = weighted_P4.T @ parts_P4 + np.diag(np.array([1e-3, 1e-3, 1e-3, 1e-9], np.float32))
        rest_P = change_P - parts_P4 @ np.linalg.solve(normal, weighted_P4.T @ change_P)
        spread = max(1.48 * float(np.median(np.abs(rest_P))), 1 / 255)
        weight_P = 1 / (1 + (rest_P / (2 * spread)) ** 2)
    return rest_P.reshape(luma_HW.shape)


def _is_cut(rest_HW: np.ndarray, luma_HW: np.ndarray) -> bool:
    unexplained = (rest_HW**2).mean() / max(luma_HW.var(), 1e-4)
    return bool(unexplained > CUT_UNEXPLAINED and (np.abs(rest_HW) > 12 / 255).mean() > CUT_CHANGED)


def _gated(change: np.ndarray) -> np.ndarray:
    """[2,H,W] without changes that most of the picture has too."""
    size = np.abs(change)
    gate = (4 * 1.48 * np.median(size, axis=(1, 2), keepdims=True)).clip(QUIET, LOUD)
    return np.where(size > gate, change, 0)


def _regions(change: np.ndarray) -> np.ndarray:
    """Mean of each region, [2,H,W] -> [2,K]."""
    height, width = change.shape[1:]
    down, across = min(REGION, height), min(REGION, width)
    inside = change[:, : height // down * down, : width // across * across]
    return inside.reshape(2, height // down, down, width // across, across).mean((2, 4)).reshape(2, -1)


def _moments(change: np.ndarray) -> np.ndarray:
    """How far things moved, by window: [2,H,W] -> [2,R,2], the whole picture first.

    Moving something by d changes the picture by a dipole of moment d x area x contrast, however far it goes; things
    that only appear or vanish have none.
    """
    moments = [_dipoles(change[:, None])]
    if min(change.shape[1:]) >= WINDOW:
        views = np.lib.stride_tricks.sliding_window_view(change, (WINDOW, WINDOW), (1, 2))
        moments.append(_dipoles(views[:, ::WINDOW_STEP, ::WINDOW_STEP].reshape(2, -1, WINDOW, WINDOW)))
    return np.concatenate(moments, 1)


def _dipoles(change: np.ndarray) -> np.ndarray:
    """[2,R,H,W] -> [2,R,2]: the moment down and to the right."""
    size, found = np.abs(change), []
    for axis in (2, 3):
        position = np.arange(change.shape[axis], dtype=np.float32)
        along, weight = change.sum(5 - axis), size.sum(5 - axis)
        centre = weight @ position / np.maximum(weight.sum(-1), 1e-6)
        found.append(along @ position - centre * along.sum(-1))
    return np.stack(found, -1)
