"""Mouths: how far they are open, and whether that follows the speech."""

from __future__ import annotations

import numpy as np

from ..words import SAMPLE_RATE
from .spectra import ENVELOPE_RATE, envelope


def mouth_opening(video: np.ndarray) -> np.ndarray:
    """How far the mouth is open, in pixels of full darkness: float64 [F].

    The mouth is what is darker, in green light, than the skin around it, within the lower half of the face. A closed
    mouth's line counts too, as a constant.
    """
    region = video[:, 34:48, 24:40, 1].astype(np.float64)
    skin = np.percentile(region, 75)
    return np.clip(skin - 15 - region, 0, None).sum(axis=(1, 2)) / max(skin, 1)


def frame_loudness(audio: np.ndarray, fps: float | str, num_frames: int, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """RMS ** 0.7 around each frame's moment, in a Hann window two frames wide: float64 [num_frames]."""
    level = envelope(audio, sample_rate, 2 / float(fps))
    at = np.round(np.arange(num_frames) / float(fps) * ENVELOPE_RATE).astype(int)
    return level[at.clip(max=len(level) - 1)] ** 0.7


def mouth_correlation(video: np.ndarray, audio: np.ndarray, fps: float | str, sample_rate: int = SAMPLE_RATE) -> float:
    """Pearson's r at zero lag between mouth and loudness; 0 where either hardly changes."""
    mouth, level = mouth_opening(video), frame_loudness(audio, fps, len(video), sample_rate)
    if mouth.std() < 0.5 or level.std() < 1e-3:
        return 0.0
    return float(np.corrcoef(mouth, level)[0, 1])
