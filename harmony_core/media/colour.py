"""Frames of any pixel format, transfer and colour space to 8-bit RGB as a screen without HDR shows it.

Facts: PQ and HLG from ITU-R BT.2100, HDR's white of 203 cd/m2 from BT.2408, matrices between primaries from BT.2087
and SMPTE EG 432-1. FFmpeg's numbers name transfers and primaries.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import av
import numpy as np

UNSTATED = 2
PQ, HLG = 16, 18
BACKGROUND = 255  # white: what shows through transparent parts
WHITE_NITS, PEAK_NITS = 203.0, 1000.0
KNEE = 0.85  # of white; what is darker keeps its brightness

BILINEAR, AREA = 0x2, 0x20  # FFmpeg's names of ways to scale
# Accurate rounding and full chroma. Without, grey comes out 2 darker where sizes change; into 16 bits it is broken.
EXACT = 0x40000 | 0x2000

BT2020, DISPLAY_P3 = 9, 12
TO_BT709 = {
    BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    DISPLAY_P3: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}


class FrameReader:
    """Makes frames of one track uint8 RGB [height, width, 3]. `notes` says what is converted, once one was read."""

    def __init__(self, stream: av.VideoStream, width: int, height: int) -> None:
        self._stream, self._size = stream, (width, height)
        self.notes: tuple[str, ...] = ()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        context = self._stream.codec_context
        transfer, primaries = context.color_trc, context.color_primaries
        asked: dict[str, Any] = {"width": self._size[0], "height": self._size[1]}
        scaling = AREA if self._size < (frame.width, frame.height) else BILINEAR
        wide = transfer in (PQ, HLG) or primaries in TO_BT709
        asked["interpolation"] = scaling if wide else scaling | EXACT
        untagged = frame.colorspace == UNSTATED and not frame.format.is_rgb
        high_definition = untagged and (frame.height >= 720 or frame.width >= 1280)
        if high_definition:
            asked["src_colorspace"] = "itu709"
        if wide:
            self.notes = (_conversion(transfer, primaries),)
            return to_sdr(frame.reformat(format="rgb48le", **asked).to_ndarray(), transfer, primaries)
        if any(component.is_alpha for component in frame.format.components):
            self.notes = ("transparent parts are shown on white",)
            return over_background(frame.reformat(format="rgba", **asked).to_ndarray())
        self.notes = ("no colour matrix is stated, read as BT.709",) if high_definition else ()
        return frame.reformat(format="rgb24", **asked).to_ndarray()


def over_background(rgba_HWC: np.ndarray) -> np.ndarray:
    """uint8 [...,4] with straight alpha to [...,3] on `BACKGROUND`, which is white."""
    colour, alpha = rgba_HWC[..., :3].astype(np.uint16), rgba_HWC[..., 3:].astype(np.uint16)
    return ((colour * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)


def to_sdr(rgb_HWC: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """uint16 RGB of an HDR transfer or of wide primaries to uint8 sRGB.

    White of 203 cd/m2 and what is darker keep their brightness, highlights up to 1000 cd/m2 are rolled off; a hue keeps
    its proportions.
    """
    linear_HWC = _linear(transfer)[rgb_HWC >> 4]
    if transfer == HLG:  # the picture on a screen of 1000 cd/m2
        luminance = linear_HWC @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        linear_HWC = linear_HWC * (PEAK_NITS / WHITE_NITS * luminance**0.2)[..., None]
    if primaries in TO_BT709:
        linear_HWC = linear_HWC @ np.array(TO_BT709[primaries], np.float32).T
    linear_HWC = linear_HWC.clip(0)
    if transfer in (PQ, HLG):
        brightest = linear_HWC.max(-1, keepdims=True)
        linear_HWC = linear_HWC * (_rolled_off(brightest) / brightest.clip(1e-6))
    return _srgb()[(linear_HWC.clip(0, 1) * 65535 + 0.5).astype(np.uint16)]


def _rolled_off(x: np.ndarray) -> np.ndarray:
    """Extended Reinhard above the knee: slope 1 there, 1 at the peak."""
    reach = (PEAK_NITS / WHITE_NITS - KNEE) / (1 - KNEE)
    t = ((x - KNEE) / (1 - KNEE)).clip(0)
    return np.where(x <= KNEE, x, KNEE + (1 - KNEE) * t * (1 + t / reach**2) / (1 + t)).clip(max=1)


@lru_cache(maxsize=4)
def _linear(transfer: int) -> np.ndarray:
    """4096 codes to light: 1 is white for PQ and SDR, the scene's peak for HLG."""
    code = np.arange(4096) / 4095
    if transfer == PQ:
        power = code ** (1 / 78.84375)
        light = ((power - 0.8359375).clip(0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
        light *= 10_000 / WHITE_NITS
    elif transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    else:
        light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@lru_cache(maxsize=1)
def _srgb() -> np.ndarray:
    light = np.arange(65536) / 65535
    code = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (code * 255 + 0.5).astype(np.uint8)


def _conversion(transfer: int, primaries: int) -> str:
    if transfer in (PQ, HLG):
        return f"HDR ({'PQ' if transfer == PQ else 'HLG'}) tone-mapped to SDR"
    return f"{'BT.2020' if primaries == BT2020 else 'Display P3'} colours -> BT.709"
