"""Our own measure of sync: any subject, no weights."""

from __future__ import annotations

from ...sync.measure import measure
from .base import FilmClip, Measure, NotMeasuredError


class SyncScorer:
    """Lag of the sound behind the picture, and AV-Align."""

    title = "Harmony sync"
    measures = (
        Measure("abs_lag_ms", "ms", "lower", "how far the sound is from the picture, where a lag is told"),
        Measure("lag_confidence", "", "", "how sure that lag is; below .5 none is told"),
        Measure("av_align", "", "higher", "onsets of the sound that meet a peak of the motion within a frame, 0..1"),
    )

    def __call__(self, clip: FilmClip) -> dict[str, float]:
        report = measure(clip.frames, clip.fps, clip.sound(), clip.sample_rate)
        found = {"lag_confidence": report.lag_confidence}
        if report.lag_ms is not None:
            found["abs_lag_ms"] = abs(report.lag_ms)
        if report.av_align is not None:
            found["av_align"] = report.av_align
        if report.lag_ms is None and report.av_align is None:
            raise NotMeasuredError(report.reason)
        return found
