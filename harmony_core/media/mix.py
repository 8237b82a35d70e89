"""Several channels to one, by the weights that broadcasting uses, and what a person should know about the result."""

from __future__ import annotations

import numpy as np

from .clips import AudioClip

HALF_POWER = 0.5**0.5
# ITU-R BS.775-4, table 2, to one channel; the low-frequency channel is left out there too.
WEIGHTS = {
    **dict.fromkeys(("FC",), 1.0),
    **dict.fromkeys(("FL", "FR", "FLC", "FRC", "WL", "WR", "DL", "DR"), HALF_POWER),
    **dict.fromkeys(("BL", "BR", "SL", "SR", "BC", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR", "TSL", "TSR"), 0.5),
    **dict.fromkeys(("LFE", "LFE2"), 0.0),
}
UNNAMED = {6: ("FL", "FR", "FC", "LFE", "BL", "BR"), 8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR")}
CANCELS = 0.1  # of the level that channels without anything in common would give: -20 dB
SILENT_PEAK = 1e-3  # -60 dB


def to_mono(clip: AudioClip) -> tuple[np.ndarray, tuple[str, ...]]:
    """One channel, and what happened, in words.

    Two channels are averaged; more are weighed by their names, or averaged where they have none. Where the mix cancels
    (one channel the inverse of the other) the loudest channel is taken instead. A mix above full scale is lowered.

    Returns:
        float32 [N], notes.
    """
    samples_CN = clip.samples
    if len(samples_CN) == 1:
        return samples_CN[0], ()
    weights_C = _weights(clip)
    mixed_N = (weights_C @ samples_CN).astype(np.float32)
    levels_C = np.sqrt(np.mean(np.square(samples_CN, dtype=np.float64), axis=1)) if samples_CN.size else weights_C * 0
    expected = float(np.sqrt(np.sum((weights_C * levels_C) ** 2)))
    level = float(np.sqrt(np.mean(np.square(mixed_N, dtype=np.float64)))) if mixed_N.size else 0.0
    if level < CANCELS * expected:
        loudest = int((weights_C * levels_C).argmax())
        name = clip.channels[loudest] if clip.channels else f"{loudest + 1}"
        return samples_CN[loudest], (f"{clip.name}: its channels cancel each other in mono; channel {name} is taken",)
    peak = float(np.abs(mixed_N).max(initial=0.0))
    if peak > 1 and float(np.abs(samples_CN).max()) <= 1:
        return mixed_N / peak, (f"{clip.name}: its channels add up to {peak:.2f} of full scale, lowered to 1",)
    return mixed_N, ()


def loudness_notes(name: str, samples: np.ndarray) -> tuple[str, ...]:
    """Whether a given sound is near silent."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak >= SILENT_PEAK:
        return ()
    level = f"peak {20 * np.log10(peak):.0f} dB" if peak else "every sample is 0"
    return (f"{name}: near silent ({level})",)


def _weights(clip: AudioClip) -> np.ndarray:
    count = len(clip.samples)
    names = clip.channels or UNNAMED.get(count, ())
    weights_C = np.array([WEIGHTS.get(name, np.nan) for name in names])
    front_alone = set(names) <= {"FL", "FR", "DL", "DR", "LFE"}
    if count == 2 or not names or np.isnan(weights_C).any():
        return np.full(count, 1 / count)
    return weights_C * HALF_POWER if front_alone else weights_C
