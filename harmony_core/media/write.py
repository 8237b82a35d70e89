"""Arrays to MP4.

Shape suffixes: F frames, H height, W width, C audio channels, N samples.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from ..outputs import prepare_output
from .clips import MediaError, check_size
from .containers import as_file, one_line

AAC_BIT_RATE = 160_000


def write_video(
    path: str | Path,
    frames: np.ndarray,
    fps: Fraction,
    samples: np.ndarray | None,
    sample_rate: int,
    scale: int = 1,
    smooth: bool = True,
) -> None:
    """Write an H.264 + AAC MP4 whose tracks both begin at 0 and are equally long to within one frame.

    The file appears when it is whole; a failure leaves an older one as it was.

    Args:
        frames: uint8 RGB [F,H,W,3]; height and width times `scale` must be even.
        samples: float32 [C,N] in -1..1 (clipped), or None for a silent file.
        scale: whole-number enlargement, so that a 64-pixel clip can be watched.
        smooth: enlarge with Lanczos; False keeps hard pixels.

    Raises:
        MediaError: a name that does not end in .mp4, a size that H.264 does not take, no frames, or an output that
            cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise MediaError(f"Cannot write {path}: video is saved as .mp4; rename it to {path.with_suffix('.mp4').name}.")
    if not len(frames):
        raise MediaError(f"Cannot write {path}: there is not one frame.")
    check_size(frames.shape[2] * scale, frames.shape[1] * scale)
    prepare_output(path)
    part = path.with_name(f"{path.name}.part")
    try:
        _encode(part, frames, Fraction(fps), samples, sample_rate, scale, smooth)
        part.replace(path)
    except av.FFmpegError as error:
        raise MediaError(f"Cannot write {path} ({one_line(error)}); choose another output.") from error
    finally:
        part.unlink(missing_ok=True)


def _encode(
    path: Path,
    frames: np.ndarray,
    fps: Fraction,
    samples: np.ndarray | None,
    sample_rate: int,
    scale: int,
    smooth: bool,
) -> None:
    """As `write_video`, straight to the file."""
    with av.open(as_file(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        # No B-frames: they would need an edit list, which some readers ignore, and the video would come late.
        video = container.add_stream("libx264", rate=fps, options={"crf": "16", "preset": "slow", "bf": "0"})
        video.width, video.height, video.pix_fmt = frames.shape[2] * scale, frames.shape[1] * scale, "yuv420p"
        video.codec_context.time_base = 1 / fps
        for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
            setattr(video.codec_context, name, 1)  # BT.709, limited range
        audio = None
        if samples is not None:
            layout = "mono" if len(samples) == 1 else "stereo"
            audio = container.add_stream("aac", rate=sample_rate, layout=layout, bit_rate=AAC_BIT_RATE)
        for index, picture in enumerate(frames):
            frame = _enlarged(picture, scale, smooth).reformat(format="yuv420p", dst_colorspace="itu709")
            frame.pts, frame.time_base = index, 1 / fps
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.clip(-1, 1), np.float32), "fltp", layout)
            sound.sample_rate, sound.pts, sound.time_base = sample_rate, 0, Fraction(1, sample_rate)
            container.mux(audio.encode(sound))
            container.mux(audio.encode(None))


def _enlarged(picture_HWC: np.ndarray, scale: int, smooth: bool) -> av.VideoFrame:
    if scale != 1:
        height, width = picture_HWC.shape[:2]
        method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
        picture_HWC = np.array(Image.fromarray(picture_HWC).resize((width * scale, height * scale), method))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), format="rgb24")
