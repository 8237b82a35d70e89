"""Arrays to MP4.

Shape suffixes: F frames, H height, W width, C audio channels, N samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from PIL import Image

from ..outputs import whole_file
from .clips import AudioClip, MediaError, check_size
from .containers import as_file, one_line
from .fit import resample_channels
from .mix import to_mono

AAC_BIT_RATE = 160_000
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
# what AAC has names for; with others FFmpeg writes channels that nobody can name, or crashes
NAMED = {
    ("FC",),
    ("FL", "FR"),
    ("FL", "FR", "LFE"),
    ("FL", "FR", "FC"),
    ("FL", "FR", "BC"),
    ("FL", "FR", "FC", "BC"),
    ("FL", "FR", "BL", "BR"),
    ("FL", "FR", "FC", "BL", "BR"),
    ("FL", "FR", "FC", "LFE", "BL", "BR"),
}
LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1")  # by number of channels; PyAV 18 crashes on eight


def writable_sound(
    sound: AudioClip, counts: Sequence[int] = range(1, len(LAYOUTS) + 1)
) -> tuple[AudioClip, tuple[str, ...]]:
    """The sound at a rate and in as many channels as AAC takes, as it is where it can be, and what was changed.

    Args:
        counts: numbers of channels that stay as they are; others become mono.
    """
    notes, rate, channels = [], sound.sample_rate, len(sound.samples)
    if channels not in counts:
        taken = f"{max(counts)}" if channels > max(counts) else ", ".join(map(str, counts))
        notes.append(f"{sound.name}: {channels} channels -> mono, films take {taken}")
        sound = replace(sound, samples=to_mono(sound)[0][None], channels=())
    elif sound.channels and _written(sound.channels) not in NAMED:
        if channels > 2:
            notes.append(f"{sound.name}: {'+'.join(sound.channels)} -> mono, films have no such channels")
            sound = replace(sound, samples=to_mono(sound)[0][None])
        sound = replace(sound, channels=())
    if rate not in AAC_RATES:
        near = next((known for known in AAC_RATES if known >= rate), AAC_RATES[-1])
        notes.append(f"{sound.name}: {rate} Hz -> {near} Hz, films have no such rate")
        sound = replace(sound, samples=resample_channels(sound.samples, rate, near), sample_rate=near)
    return sound, tuple(notes)


def write_video(path: str | Path, *arguments: Any, **options: Any) -> None:
    """Write an MP4 as `encode_video` does. It appears when it is whole; a failure leaves an older one as it was.

    Raises:
        MediaError: a name that does not end in .mp4, or as `encode_video`; OutputError for one that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise MediaError(f"Cannot write {path}: video is saved as .mp4; rename it to {path.with_suffix('.mp4').name}.")
    with whole_file(path) as part:
        encode_video(part, *arguments, **options)


def encode_video(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: Fraction,
    samples: np.ndarray | None,
    sample_rate: int,
    scale: int = 1,
    smooth: bool = True,
    *,
    channels: tuple[str, ...] = (),
    bit_rate: int = AAC_BIT_RATE,
    comment: str = "",
) -> None:
    """H.264 + AAC, straight to the file: tracks that both begin at 0 and are equally long to within one frame.

    Args:
        frames: uint8 RGB [H,W,3] each; height and width times `scale` must be even.
        samples: float32 [C,N] in -1..1 (clipped), or None for a silent file.
        scale: whole-number enlargement, so that a 64-pixel clip can be watched.
        smooth: enlarge with Lanczos; False keeps hard pixels.
        channels: what each of `samples` is (FL, FR, ...); by their number if empty.
        bit_rate: of the sound.
        comment: kept in the file's metadata.

    Raises:
        MediaError: a size that H.264 does not take, a rate or channels that AAC does not, no frames.
        OSError: what FFmpeg says.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise MediaError(f"Cannot write {path}: there is not one frame.")
    height, width = first.shape[0] * scale, first.shape[1] * scale
    check_size(width, height)
    try:
        with av.open(as_file(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            if comment:
                container.metadata["comment"] = comment
            video = _video_track(container, Fraction(fps), height, width)
            audio = None if samples is None else _audio_track(container, len(samples), sample_rate, channels, bit_rate)
            for index, picture in enumerate(chain((first,), frames)):
                frame = _enlarged(picture, scale, smooth).reformat(format="yuv420p", dst_colorspace="itu709")
                frame.pts, frame.time_base = index, 1 / Fraction(fps)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            if audio is not None and samples is not None:
                planes_CN = np.ascontiguousarray(samples.clip(-1, 1), np.float32)
                sound = av.AudioFrame.from_ndarray(planes_CN, "fltp", audio.layout.name)
                sound.sample_rate, sound.pts, sound.time_base = sample_rate, 0, Fraction(1, sample_rate)
                container.mux(audio.encode(sound))
                container.mux(audio.encode(None))
    except FFmpegError as error:
        raise OSError(error.errno, one_line(error)) from error


def _video_track(container: OutputContainer, fps: Fraction, height: int, width: int) -> av.VideoStream:
    # No B-frames: they would need an edit list, which some readers ignore, and the video would come late.
    video = container.add_stream("libx264", rate=fps, options={"crf": "16", "preset": "slow", "bf": "0"})
    video.width, video.height, video.pix_fmt = width, height, "yuv420p"
    video.codec_context.time_base = 1 / fps
    for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
        setattr(video.codec_context, name, 1)  # BT.709, limited range
    return video


def _audio_track(
    container: OutputContainer, count: int, sample_rate: int, channels: tuple[str, ...], bit_rate: int
) -> av.AudioStream:
    if sample_rate not in AAC_RATES:
        raise MediaError(
            f"AAC has no rate of {sample_rate} Hz; resample it to one of {', '.join(map(str, AAC_RATES))}."
        )
    if count > len(LAYOUTS):
        raise MediaError(f"AAC is written with 1 to {len(LAYOUTS)} channels, not {count}; mix them.")
    layout = "+".join(_written(channels)) or LAYOUTS[count - 1]
    return container.add_stream("aac", rate=sample_rate, layout=layout, bit_rate=bit_rate)


def _written(channels: tuple[str, ...]) -> tuple[str, ...]:
    """Names as AAC has them: one pair of surrounds is at the back."""
    if "BL" in channels:
        return channels
    return tuple({"SL": "BL", "SR": "BR"}.get(name, name) for name in channels)


def _enlarged(picture_HWC: np.ndarray, scale: int, smooth: bool) -> av.VideoFrame:
    if scale != 1:
        height, width = picture_HWC.shape[:2]
        method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
        picture_HWC = np.array(Image.fromarray(picture_HWC).resize((width * scale, height * scale), method))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), format="rgb24")
