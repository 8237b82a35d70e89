"""What several commands do with a clip: write it, measure it."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from ..evaluation.sync import SyncReport

VIEWABLE_SIDE = 256  # smaller clips are enlarged to about this when written


def write_clip(
    path: Path,
    frames: np.ndarray,
    fps: Fraction,
    samples: np.ndarray | None,
    sample_rate: int,
    scale: int | None = None,
) -> None:
    """`write_video`, enlarged `scale` times; None: to be viewable."""
    from ..media import write_video

    if scale is None:
        scale = max(1, math.ceil(VIEWABLE_SIDE / min(frames.shape[1:3])))
    write_video(path, frames, fps, samples, sample_rate, scale=scale)


def measure_clip(
    frames: np.ndarray, fps: Fraction, samples: np.ndarray, sample_rate: int, plot: Path | None, title: str
) -> SyncReport:
    """The sync report, and its plot if there is a path for one."""
    from ..evaluation.plot import sync_plot
    from ..evaluation.sync import measure

    report = measure(frames, fps, samples, sample_rate)
    if plot is not None:
        sync_plot(report, frames, samples, sample_rate, title).save(plot)
    return report
