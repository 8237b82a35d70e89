"""CPU time and memory of `harmony sync` against the length of the film.

    python -m benchmarks.sync_length [--minutes 1 5] [--height 1080] [--output benchmarks/sync_length.csv]

A film of a bouncing ball with its knocks, 30 frames a second, is written for each length; the command runs on it in a
process of its own. `cpu_s` and `peak_mb` are that process's, imports and decoding included.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS, RATE, LAG_S = 30, 48000, 0.12
RADIUS = 0.06  # of the picture's height

CHILD = """
import json, resource, sys
from harmony_core.cli import main
try:
    main()
finally:
    own = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_s": own.ru_utime + own.ru_stime, "peak_mb": own.ru_maxrss / 1024}))
"""


def write_film(path: Path, seconds: float, height: int) -> None:
    """An MP4 whose sound is `LAG_S` late, written frame by frame."""
    width = height * 16 // 9 // 2 * 2
    rng = np.random.default_rng(0)
    impacts = -1 + np.cumsum(rng.uniform(0.35, 0.8, round(seconds / 0.35) + 10))
    rows, columns = np.mgrid[:height, :width].astype(np.float32) / height
    backdrop = (90 + 60 * rows + 12 * np.sin(40 * columns) * np.sin(31 * rows)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "23"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="stereo")
        for index in range(round(seconds * FPS)):
            after = np.searchsorted(impacts, index / FPS, side="right")
            flight = (index / FPS - impacts[after - 1]) * (impacts[after] - index / FPS)
            picture = backdrop.copy()
            centre_y, centre_x = 0.85 - 4 * flight, 0.9 + 0.5 * np.sin(index / FPS / 3)
            top, left = (max(0, int((centre - RADIUS) * height)) for centre in (centre_y, centre_x))
            box = slice(top, int((centre_y + RADIUS) * height) + 2), slice(left, int((centre_x + RADIUS) * height) + 2)
            picture[box][(rows[box] - centre_y) ** 2 + (columns[box] - centre_x) ** 2 < RADIUS**2] = 230
            planes = np.full((height * 3 // 2, width), 128, np.uint8)
            planes[:height] = picture
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
            container.mux(_sound(audio, impacts, index, rng))
        for stream in (video, audio):
            container.mux(stream.encode(None))


def _sound(stream: av.AudioStream, impacts: np.ndarray, index: int, rng: np.random.Generator) -> list[av.Packet]:
    """Packets of the sound beside one frame."""
    size = RATE // FPS
    times = (index * size + np.arange(size)) / RATE - LAG_S
    since = times - impacts[np.searchsorted(impacts, times, side="right") - 1]
    knock = 0.4 * np.exp(-since / 0.03) * np.sin(2 * np.pi * 300 * since) + 1e-3 * rng.standard_normal(size)
    frame = av.AudioFrame.from_ndarray(np.stack([knock, knock]).astype(np.float32), "fltp", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE, index * size, Fraction(1, RATE)
    return stream.encode(frame)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure harmony sync on long films.")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 5])
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "sync_length.csv")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in arguments.minutes:
            film, plot = Path(folder) / "film.mp4", Path(folder) / "film.png"
            write_film(film, 60 * minutes, arguments.height)
            command = ["sync", str(film), "--json", "--seconds", str(60 * minutes), "--plot", str(plot)]
            done = subprocess.run(
                [sys.executable, "-c", CHILD, *command],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                check=True,
                capture_output=True,
                text=True,
            )
            report, used = map(json.loads, done.stdout.splitlines())
            rows.append(
                {
                    "height": arguments.height,
                    "seconds": 60 * minutes,
                    "cpu_s": round(used["cpu_s"], 1),
                    "peak_mb": round(used["peak_mb"]),
                    "true_lag_ms": 1000 * LAG_S,
                    "lag_ms": report["lag_ms"],
                    "confidence": report["lag_confidence"],
                }
            )
            print(rows[-1])
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
