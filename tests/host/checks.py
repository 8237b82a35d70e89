"""What a saved clip must be."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import av
import numpy as np

from .comfyui import ComfyServer, Run


def saved_file(server: ComfyServer, run: Run, node_id: str) -> bytes:
    """The bytes of the one file that a save node reported."""
    (output,) = run.outputs[node_id]["images"]
    return server.view(output)


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


def check_clip(file: bytes, num_frames: int, size: tuple[int, int], fps: float) -> None:
    """Both tracks are there, equally long to within one frame, and hold something."""
    frames, samples, rate, sample_rate = read_clip(file)
    assert frames.shape == (num_frames, *size, 3)
    assert abs(rate - fps) < 0.01
    assert abs(len(frames) / rate - len(samples) / sample_rate) <= 1 / rate
    assert np.abs(samples).max() > 0.01, "the sound is silent"
    assert frames.std() > 2, "the picture is empty"
