"""Small media files with known content, written with PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RED, BLUE = (200, 60, 10), (20, 60, 210)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def write_audio(path: Path, codec: str, rate: int, layout: str, samples: np.ndarray) -> None:
    """Encode float [N] to every channel of `layout`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        channels = np.repeat(samples[None], stream.layout.nb_channels, axis=0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        converter = av.AudioResampler(stream.format, stream.layout, rate)
        for part in (frame, None):
            for out in converter.resample(part):
                container.mux(stream.encode(out))
        container.mux(stream.encode(None))


def write_frames(path: Path, codec: str, pictures: list[np.ndarray], pts: list[int], time_base: Fraction) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=round(1 / time_base))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        for picture, time in zip(pictures, pts, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def shades(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Pictures whose brightness tells their index: 10, 20, 30, ..."""
    return [np.full((height, width, 3), 10 * (i + 1), np.uint8) for i in range(count)]


def order(frames: np.ndarray) -> list[int]:
    return [round(frame.mean() / 10) - 1 for frame in frames]
