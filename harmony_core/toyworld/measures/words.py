"""Which of the toy world's words are heard: bursts of speech against the recordings, by dynamic time warping.

Legend: R recordings, L spectrogram frames of a burst, P of the longest recording, K bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ..words import SAMPLE_RATE, VOICES, WORDS, recording
from .spectra import ENVELOPE_RATE, envelope, mel_filters, power_frames

MARGIN_S = 0.02  # of sound kept around a burst
_DROPPED, _COEFFICIENTS = 1, 12  # cepstral coefficients: without the first, which is the level


@dataclass(frozen=True)
class _Recordings:
    words: tuple[str, ...]
    features: np.ndarray  # [R, P, K], short ones padded with zeros
    lengths: np.ndarray  # [R]


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


def heard_words(audio: np.ndarray) -> tuple[str, ...]:
    """The nearest word of WORDS to every burst of speech (16 kHz), in order."""
    margin = round(MARGIN_S * SAMPLE_RATE)
    words = []
    for first, last in speech_bursts(envelope(audio, SAMPLE_RATE)):
        start, end = (round(at / ENVELOPE_RATE * SAMPLE_RATE) for at in (first, last))
        burst_LK = _cepstra(audio[max(start - margin, 0) : end + margin])
        words.append(_recordings().words[int(_warped_distance(burst_LK, _recordings()).argmin())])
    return tuple(words)


def error_rate(heard: tuple[str, ...], wanted: tuple[str, ...]) -> float:
    """Edits (insertions, deletions, substitutions) from `wanted` to `heard` over the units wanted; may pass 1."""
    edits = list(range(len(heard) + 1))
    for i, unit in enumerate(wanted, 1):
        diagonal, edits[0] = edits[0], i
        for j, other in enumerate(heard, 1):
            diagonal, edits[j] = edits[j], min(edits[j] + 1, edits[j - 1] + 1, diagonal + (unit != other))
    return edits[-1] / len(wanted)


def word_accuracy(heard: tuple[str, ...], wanted: tuple[str, ...]) -> float:
    """1 - `error_rate`, at least 0."""
    return max(0.0, 1 - error_rate(heard, wanted))


def _cepstra(audio: np.ndarray) -> np.ndarray:
    """Cosine transform of the log spectrum in mel bands, every 10 ms, its mean over time removed: float64 [L, K]."""
    mel = power_frames(audio) @ mel_filters(40).T
    level = np.log(mel + 1e-4 * mel.max() + 1e-12)
    bands = np.arange(level.shape[1]) + 0.5
    basis = np.cos(np.pi / len(bands) * np.outer(bands, np.arange(_DROPPED, _DROPPED + _COEFFICIENTS)))
    return level @ basis / len(bands)


@cache
def _recordings() -> _Recordings:
    voices = [voice for pair in VOICES.values() for voice in pair]
    features = [_cepstra(recording(voice, word)) for word in WORDS for voice in voices]
    lengths = np.array([len(each) for each in features])
    padded = np.zeros((len(features), lengths.max(), _COEFFICIENTS))
    for row, each in zip(padded, features, strict=True):
        row[: len(each)] = each
    return _Recordings(tuple(word for word in WORDS for _ in voices), padded, lengths)


def _warped_distance(burst_LK: np.ndarray, recordings: _Recordings) -> np.ndarray:
    """Mean distance along the best monotone alignment of a burst with each recording: float64 [R]."""
    cost_RLP = np.linalg.norm(burst_LK[None, :, None] - recordings.features[:, None], axis=-1)
    total = np.full((len(cost_RLP), len(burst_LK) + 1, cost_RLP.shape[2] + 1), np.inf)
    total[:, 0, 0] = 0
    for i in range(len(burst_LK)):
        for j in range(cost_RLP.shape[2]):
            best = np.minimum(np.minimum(total[:, i, j + 1], total[:, i + 1, j]), total[:, i, j])
            total[:, i + 1, j + 1] = best + cost_RLP[:, i, j]
    ends = total[np.arange(len(total)), -1, recordings.lengths]
    return ends / (len(burst_LK) + recordings.lengths)
