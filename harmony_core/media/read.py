"""Files to arrays. PyAV and Pillow only.

Both tracks of a file are read on one clock, the container's: a track that begins late is led in by its first frame or
by silence, so that what is in sync in the file is in sync in the arrays.

Shape suffixes: F frames, H height, W width, C audio channels, N samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps

from .clips import AudioClip, MediaError, VideoClip

FALLBACK_FPS = Fraction(25)  # for a single picture, which has no rate
MIN_SAMPLE_RATE = 100  # Hz; FFmpeg makes nothing of a few samples a second


def read_video(path: str | Path, *, seconds: float | None = None, short_side: int | None = None) -> VideoClip:
    """The video track of a file, rotated as its metadata says.

    A variable frame rate becomes the file's average rate, each frame the one nearest in time. `seconds` stops reading
    there; `short_side` shrinks frames as they are read, so that long or large files fit in memory.

    Raises:
        MediaError: missing or unreadable file, no video track, no frame in it, or frames of several sizes.
    """
    path = Path(path)
    frames_FHWC, times, size = np.empty((0, 0, 0, 3), np.uint8), [], None
    with _open(path) as container:
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.__class__.attached_pic]
        if not streams:
            raise MediaError(f"{path} has no video track; give a video file, or use it as --audio.")
        stream, origin = streams[0], Fraction(container.start_time or 0, av.time_base)
        stream.thread_type = "AUTO"
        fps = stream.average_rate  # None in a WebM that states no length of a frame
        for frame in container.decode(stream):
            known = frame.pts is not None
            time = frame.pts * frame.time_base - origin if known else len(times) / (fps or FALLBACK_FPS)
            if seconds is not None and times and time >= seconds:
                break
            picture_HWC = _upright(frame, short_side)
            if not times:
                frames_FHWC = np.empty((0, *picture_HWC.shape), np.uint8)
                size = (frame.width, frame.height)[:: -1 if round(frame.rotation / 90) % 2 else 1]
            elif picture_HWC.shape != frames_FHWC.shape[1:]:
                sizes = [f"{shape[1]}x{shape[0]}" for shape in (frames_FHWC.shape[1:], picture_HWC.shape)]
                raise MediaError(
                    f"{path} changes from {sizes[0]} to {sizes[1]} at {float(time):.2f} s; convert it to one size."
                )
            if len(times) == len(frames_FHWC):  # grown in place: a list and its stack would take twice the memory
                frames_FHWC.resize((max(64, len(times) * 5 // 4), *picture_HWC.shape), refcheck=False)
            frames_FHWC[len(times)] = picture_HWC
            times.append(time)
    if not times:
        raise MediaError(f"{path} has a video track without a single frame; the file is damaged or was cut short.")
    frames_FHWC.resize((len(times), *frames_FHWC.shape[1:]), refcheck=False)
    fps = fps or _rate_of(times)
    shown = _constant_rate(times, fps)
    return VideoClip(frames_FHWC if shown == list(range(len(times))) else frames_FHWC[shown], fps, path.name, size)


def read_audio(path: str | Path, *, seconds: float | None = None) -> AudioClip:
    """The audio track of a sound or video file: any codec, rate and channel count; integers are scaled to -1..1.

    Raises:
        MediaError: missing or unreadable file, no audio track, no sample in it, or fewer than `MIN_SAMPLE_RATE` a
            second.
    """
    path = Path(path)
    chunks, channels, start = [], 1, Fraction(0)
    with _open(path) as container:
        if not container.streams.audio:
            raise MediaError(f"{path} has no audio track; give a file with sound.")
        stream, origin = container.streams.audio[0], Fraction(container.start_time or 0, av.time_base)
        sample_rate, read, converter = stream.rate, 0, None
        if "mp4" in container.format.name and stream.duration:  # MP4 states the length without the codec's padding
            end = (stream.start_time + stream.duration) * stream.time_base - origin
            seconds = end if seconds is None else min(seconds, end)
        for frame in container.decode(stream):
            if converter is None:
                start = frame.pts * frame.time_base - origin if frame.pts is not None else Fraction(0)
                sample_rate, channels = frame.sample_rate, frame.layout.nb_channels
                # Interleaved, because PyAV 18 crashes on planar sound of eight channels or more.
                converter = av.AudioResampler(format="flt", layout=frame.layout, rate=sample_rate)
            chunks += [out.to_ndarray() for out in converter.resample(frame)]
            read += frame.samples
            if seconds is not None and start + Fraction(read, sample_rate) >= seconds:
                break
        if converter is not None:
            chunks += [out.to_ndarray() for out in converter.resample(None)]
    if not chunks:
        raise MediaError(f"{path} has an audio track without a single sample; record or export it again.")
    if sample_rate < MIN_SAMPLE_RATE:
        raise MediaError(f"{path} has {sample_rate} samples of sound a second; export it at 16000 Hz or more.")
    samples_CN = np.concatenate(chunks, axis=1).reshape(-1, channels).T
    lead = round(start * sample_rate)
    samples_CN = np.pad(samples_CN, ((0, 0), (lead, 0))) if lead > 0 else samples_CN[:, -lead:]
    if seconds is not None:
        samples_CN = samples_CN[:, : round(seconds * sample_rate)]
    return AudioClip(np.nan_to_num(samples_CN.astype(np.float32)), sample_rate, path.name)


def has_audio(path: str | Path) -> bool:
    """Whether the file has an audio track. Raises MediaError as `read_audio` does."""
    with _open(Path(path)) as container:
        return bool(container.streams.audio)


def read_image(path: str | Path) -> np.ndarray:
    """A picture as uint8 [H,W,3], rotated as its EXIF says. Raises MediaError for a missing or unreadable file."""
    path = Path(path)
    _require_file(path)
    try:
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"{path} is not a picture that can be read ({one_line(error)}); use PNG or JPEG.") from error


@contextmanager
def _open(path: Path) -> Iterator[av.container.InputContainer]:
    _require_file(path)
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            yield container
    except av.FFmpegError as error:
        raise MediaError(f"{path} cannot be read as media ({one_line(error)}); convert it to MP4 or WAV.") from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise MediaError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; give the path of a media file.")


def one_line(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def _upright(frame: av.VideoFrame, short_side: int | None) -> np.ndarray:
    size = {}
    if short_side is not None and min(frame.width, frame.height) > short_side:
        shrink = short_side / min(frame.width, frame.height)
        size = {"width": round(frame.width * shrink), "height": round(frame.height * shrink), "interpolation": "AREA"}
    picture_HWC = frame.reformat(format="rgb24", **size).to_ndarray()
    return np.rot90(picture_HWC, round(frame.rotation / 90)) if frame.rotation else picture_HWC


def _rate_of(times: list[Fraction]) -> Fraction:
    """The average rate of timestamps, for a file that states none."""
    span = times[-1] - times[0]
    return (len(times) - 1) / Fraction(span) if span > 0 else FALLBACK_FPS


def _constant_rate(times: list[Fraction], fps: Fraction) -> list[int]:
    """Which frame to show at each tick of `fps` from time 0."""
    if all(abs(time - index / fps) * fps < Fraction(1, 2) for index, time in enumerate(times)):
        return list(range(len(times)))
    ticks = np.arange(max(1, round((times[-1] + 1 / fps) * fps))) / float(fps)
    seconds = np.array([float(time) for time in times])
    later = np.searchsorted(seconds, ticks).clip(1, max(1, len(seconds) - 1)).clip(max=len(seconds) - 1)
    earlier = (later - 1).clip(min=0)
    return np.where(ticks - seconds[earlier] <= seconds[later] - ticks, earlier, later).tolist()
