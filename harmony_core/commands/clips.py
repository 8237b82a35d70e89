"""What several commands do with a clip: write it, measure it."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ..sync import MAX_LAG_S

if TYPE_CHECKING:
    import numpy as np

    from ..sync.measure import SyncReport

VIEWABLE_SIDE = 256  # smaller clips are enlarged to about this when written


def enlargement(height: int, width: int, scale: int | None = None) -> int:
    """How many times larger a clip is written: `scale`, or None to be viewable. Raises MediaError for too large."""
    from ..media import MAX_SIDE, check_size

    if scale is None:
        scale = max(1, min(math.ceil(VIEWABLE_SIDE / min(height, width)), MAX_SIDE // max(height, width)))
    check_size(width * scale, height * scale)
    return scale


def write_clip(
    path: Path,
    frames: np.ndarray,
    fps: Fraction,
    samples: np.ndarray | None,
    sample_rate: int,
    scale: int | None = None,
) -> None:
    """`write_video`, enlarged as `enlargement` says."""
    from ..media import write_video

    write_video(path, frames, fps, samples, sample_rate, scale=enlargement(*frames.shape[1:3], scale))


def measure_clip(
    frames: np.ndarray,
    fps: Fraction,
    samples: np.ndarray,
    sample_rate: int,
    plot: Path | None,
    title: str,
    max_lag_s: float = MAX_LAG_S,
) -> SyncReport:
    """The sync report, and its plot if there is a path for one."""
    from ..sync.measure import measure
    from ..sync.plot import sync_plot

    report = measure(frames, fps, samples, sample_rate, max_lag_s)
    if plot is not None:
        sync_plot(report, frames, samples, sample_rate, title).save(plot)
    return report
