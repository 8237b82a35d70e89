"""What a workflow saved."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import av
import numpy as np


def read_clip(file: bytes | Path) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Frames uint8 [F,H,W,3], mono samples float32 [N], frames per second, samples per second."""
    with av.open(BytesIO(file) if isinstance(file, bytes) else str(file)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        frames, samples = [], []
        for frame in container.decode(video, audio):
            if isinstance(frame, av.VideoFrame):
                frames.append(frame.to_ndarray(format="rgb24"))
            else:
                samples.append(frame.to_ndarray().mean(0))
        return np.stack(frames), np.concatenate(samples), float(video.average_rate), audio.rate
