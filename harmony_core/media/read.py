"""Video and sound files to arrays. PyAV only.

Both tracks of a file are read on one clock, the container's: a track that begins late is led in by its first frame or
by silence, so that what is in sync in the file is in sync in the arrays. Timestamps decide, not counts: gaps in sound
are filled with silence, frames stand when they were taken.

Shape suffixes: F frames, H height, W width, C audio channels, N samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from math import ceil
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.frame import Frame

from ..geometry import MAX_SIDE, as_fraction
from .clips import MAX_BYTES, MAX_SECONDS, AudioClip, MediaError, VideoClip, check_bytes, clean_samples
from .colour import FrameReader
from .containers import open_media, pick_stream
from .times import FALLBACK_FPS, frames_shown, off_grid, rate_of

SAMPLE_RATES = (100, 768_000)  # Hz; FFmpeg makes nothing of a few samples a second
MAX_CODED_SIDE = 16_384  # pixels; a header may state any
PIXEL_ASPECTS = (Fraction(1, 8), Fraction(8))  # what lies beyond is a damaged header
JITTER_S = Fraction(1, 50)  # of sound timestamps; what is further off is a gap or an overlap
LEAD_S = 1  # read before where a part begins: sound needs frames from before its own
SEEK_S = 2 * LEAD_S
RESTART_S = 1  # a jump back by more is a clock that began anew, not an overlap


def read_video(
    path: str | Path, *, start: float = 0, seconds: float | None = None, short_side: int | None = None
) -> VideoClip:
    """The video track of a file that is flagged default, else the first: upright, in square pixels, in SDR.

    The rate is what the timestamps say. Frames at uneven times are held until the next. Of the file `seconds` are read
    (None: all) from second `start` on; `short_side` shrinks frames as they are read, so that long or large files fit in
    memory.

    Raises:
        MediaError: missing or unreadable file, no video track, no frame in it, frames of several sizes, or more than
            an hour or `MAX_BYTES`.
    """
    path = Path(path)
    frames_FHWC, times, more = np.empty((0, 0, 0, 3), np.uint8), [], False
    with open_media(path) as container:
        stream, notes = pick_stream(container.streams.video, path, "video")
        decoder = _Pictures(container, stream, path, short_side, start)
        for time, picture_HWC in decoder:
            more = seconds is not None and bool(times) and time >= seconds
            if more:
                break
            if time > MAX_SECONDS:
                raise MediaError(f"{path} is longer than {MAX_SECONDS} s; ask for fewer seconds.")
            check_bytes(path, (len(times) + 1) * picture_HWC.nbytes)
            if not times:
                room = min(_expected_frames(container, stream, seconds), MAX_BYTES // picture_HWC.nbytes)
                frames_FHWC = np.empty((room, *picture_HWC.shape), np.uint8)
            if len(times) == len(frames_FHWC):  # grown in place: a list and its stack would take twice the memory
                frames_FHWC.resize((max(64, len(times) * 5 // 4), *picture_HWC.shape), refcheck=False)
            frames_FHWC[len(times)] = picture_HWC
            times.append(time)
        fps = rate_of(times, decoder.stated_fps, stream.time_base or Fraction(0)) if times else FALLBACK_FPS
    if not times:
        after = f" after {start:g} s" if start else ""
        raise MediaError(f"{path} has a video track without a single frame{after}; it is damaged or was cut short.")
    frames_FHWC.resize((len(times), *frames_FHWC.shape[1:]), refcheck=False)
    late_s = off_grid(times, fps)
    end = Fraction(str(seconds)) if more else times[-1] + 1 / fps
    shown = frames_shown([time - late_s for time in times], fps, end - late_s)
    check_bytes(path, len(shown) * frames_FHWC[0].nbytes)
    if shown != tuple(range(len(times))):
        frames_FHWC = frames_FHWC[list(shown)]
    source = None if start else path  # `own_frames` reads from the beginning
    return VideoClip(frames_FHWC, fps, path.name, decoder.size, (*notes, *decoder.notes), source, shown, late_s)


def _expected_frames(container: InputContainer, stream: av.VideoStream, seconds: float | None) -> int:
    """How many frames the header promises, or 1."""
    length = Fraction(container.duration or 0, av.time_base)
    length = length if seconds is None else min(length, Fraction(str(seconds)))
    return 1 + ceil(length * (stream.average_rate or 0))


def own_frames(clip: VideoClip) -> Iterator[np.ndarray]:
    """The clip's frames in the size of its file, uint8 [H,W,3], read anew one by one. Raises MediaError."""
    height, width = clip.frames.shape[1:3]
    if clip.source is None or clip.size == (width, height):
        yield from clip.frames
        return
    with open_media(clip.source) as container:
        stream, _ = pick_stream(container.streams.video, clip.source, "video")
        place = 0
        for index, (_, picture_HWC) in enumerate(_Pictures(container, stream, clip.source, None)):
            while place < len(clip.picks) and clip.picks[place] == index:
                yield picture_HWC
                place += 1
            if place == len(clip.picks):
                return


class _Pictures:
    """(seconds from `start`, uint8 [H,W,3]) of every frame of a track that is taken from there on.

    `size` is width and height before any shrinking.
    """

    def __init__(
        self, container: InputContainer, stream: av.VideoStream, path: Path, short_side: int | None, start: float = 0
    ) -> None:
        self._start = as_fraction(start)
        self._container, self._stream, self._path, self._short_side = container, stream, path, short_side
        self.stated_fps = (stream.average_rate, stream.guessed_rate, stream.base_rate)
        self.size: tuple[int, int] | None = None
        self.notes: tuple[str, ...] = ()
        context = stream.codec_context
        if max(context.width, context.height) > MAX_CODED_SIDE:
            raise MediaError(
                f"{path} is {context.width}x{context.height}; films are read up to {MAX_CODED_SIDE} pixels a side."
            )
        stream.thread_type = "AUTO"

    def __iter__(self) -> Iterator[tuple[Fraction, np.ndarray]]:
        origin = Fraction(self._container.start_time or 0, av.time_base)
        fps = self._stream.average_rate or FALLBACK_FPS
        coded, to_rgb, last, shift = (0, 0), None, None, Fraction(0)
        _seek(self._container, origin + self._start)
        for index, frame in enumerate(self._container.decode(self._stream)):
            stamp = _stamp_s(frame)
            time = (index / fps if stamp is None else stamp - origin + shift) - self._start
            if last is not None and time < last - RESTART_S:  # the clock began anew: pictures go on, as sound does
                shift += last + 1 / fps - time
                time = last + 1 / fps
            if last is not None and time < last:  # an overlap
                continue
            last = time
            if self._start and time < -1 / (2 * fps):
                continue
            first = to_rgb is None
            if to_rgb is None:
                coded, shown = (frame.width, frame.height), self._shown_size(frame)
                to_rgb = FrameReader(self._stream, *self._shrunk(shown))
                turned = round(frame.rotation / 90) % 2
                self.size = (shown[1], shown[0]) if turned else shown
            elif (frame.width, frame.height) != coded:
                raise MediaError(
                    f"{self._path} changes from {coded[0]}x{coded[1]} to {frame.width}x{frame.height} at "
                    f"{float(time):.2f} s; convert it to one size."
                )
            picture_HWC = to_rgb(frame)
            if first:
                self.notes += tuple(f"{self._path.name}: {note}" for note in to_rgb.notes)
            turns = round(frame.rotation / 90) % 4
            yield time, np.rot90(picture_HWC, turns) if turns else picture_HWC

    def _shown_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """In square pixels."""
        width, height, aspect = frame.width, frame.height, self._stream.sample_aspect_ratio
        if aspect is None or aspect == 1 or not PIXEL_ASPECTS[0] <= aspect <= PIXEL_ASPECTS[1]:
            return width, height
        shown = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
        if max(shown) > MAX_SIDE:
            return width, height
        said = f"{aspect.numerator}:{aspect.denominator}"
        self.notes += (f"{self._path.name}: {width}x{height} in pixels of {said} -> {shown[0]}x{shown[1]}",)
        return shown

    def _shrunk(self, size: tuple[int, int]) -> tuple[int, int]:
        if self._short_side is None or min(size) <= self._short_side:
            return size
        shrink = self._short_side / min(size)
        return round(size[0] * shrink), round(size[1] * shrink)


def read_audio(
    path: str | Path, *, start: float = 0, seconds: float | None = None, track: int | None = None
) -> AudioClip:
    """The audio track of a sound or video file: any codec, rate and channel count; integers are scaled to -1..1.

    Silence stands where timestamps leave a gap, and nothing is kept twice where they overlap.

    Args:
        start: second from which on it is read.
        seconds: how much is read; None = all.
        track: which, from 1; None takes the one that is flagged default, else the first.

    Raises:
        MediaError: missing or unreadable file, no such audio track, no sample in it, more than an hour, or a rate out
            of `SAMPLE_RATES`.
    """
    path = Path(path)
    with open_media(path) as container:
        stream, notes = pick_stream(container.streams.audio, path, "audio", track)
        origin = Fraction(container.start_time or 0, av.time_base)
        begin, end = as_fraction(start), seconds
        # MP4 states the length without the codec's padding.
        if "mp4" in container.format.name and stream.duration and stream.time_base:
            stated = ((stream.start_time or 0) + stream.duration) * stream.time_base - origin - begin
            end = stated if seconds is None else min(seconds, stated)
        sound = _Timeline(path, end, start)
        _seek(container, origin + begin)
        for frame in container.decode(stream):
            stamp = _stamp_s(frame)
            time = None if stamp is None else stamp - origin - begin
            if begin and time is not None and time + Fraction(frame.samples, frame.sample_rate) <= 0:
                continue
            sound.add(frame, time)
            if sound.full:
                break
    samples_CN, wrong = clean_samples(sound.samples(), path.name)
    return AudioClip(samples_CN, sound.sample_rate, path.name, (*notes, *sound.notes, *wrong), sound.channels)


def _seek(container: InputContainer, time: Fraction) -> None:
    """Near to a time, before it; a file that cannot be sought in is read from its beginning."""
    if time > SEEK_S:
        with suppress(FFmpegError):
            container.seek(round((time - LEAD_S) * av.time_base))


def _stamp_s(frame: Frame) -> Fraction | None:
    """Seconds on the file's clock, if it says."""
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base


class _Timeline:
    """Sound put together by its timestamps, up to `end` seconds from where it is read."""

    def __init__(self, path: Path, end: float | Fraction | None, start: float = 0) -> None:
        self._path, self._end, self._start = path, end, start
        self._pieces: list[np.ndarray] = []
        self._converter: av.AudioResampler | None = None
        self._read, self._filled_s, self._gaps = 0, 0.0, 0
        self.sample_rate = 0
        self.channels: tuple[str, ...] = ()

    @property
    def full(self) -> bool:
        return self._read >= self._limit()

    @property
    def notes(self) -> tuple[str, ...]:
        if not self._gaps:
            return ()
        gaps = "a gap" if self._gaps == 1 else f"{self._gaps} gaps"
        return (f"{self._path.name}: {gaps} in the sound filled with {self._filled_s:.2f} s of silence",)

    def add(self, frame: av.AudioFrame, time: Fraction | None) -> None:
        if self._converter is None:
            self._converter = self._begin(frame)
        if (frame.sample_rate, len(frame.layout.channels)) != (self.sample_rate, self._count):
            raise MediaError(f"{self._path} changes its sample rate or channels; convert it to one of each.")
        chunks = [out.to_ndarray().reshape(-1, self._count).T for out in self._converter.resample(frame)]
        chunk_CN = np.concatenate(chunks, axis=1) if chunks else np.empty((self._count, 0), np.float32)
        shift = 0 if time is None else round(time * self.sample_rate) - self._read
        first = not self._pieces and self._read == 0
        if not first and (abs(shift) <= JITTER_S * self.sample_rate or shift < -RESTART_S * self.sample_rate):
            shift = 0
        if shift > 0:
            shift = min(shift, self._limit() - self._read)
            self._check(shift)
            self._pieces.append(np.zeros((self._count, shift), np.float32))
            if not first:
                self._gaps, self._filled_s = self._gaps + 1, self._filled_s + shift / self.sample_rate
        elif shift < 0:
            chunk_CN = chunk_CN[:, -shift:]
        self._check(chunk_CN.shape[1])
        self._pieces.append(chunk_CN)
        self._read += max(shift, 0) + chunk_CN.shape[1]

    def samples(self) -> np.ndarray:
        """float32 [C,N]. Raises MediaError for a track without a sample."""
        if not self._read:
            after = f" after {self._start:g} s" if self._start else ""
            raise MediaError(
                f"{self._path} has an audio track without a single sample{after}; record or export it again."
            )
        samples_CN = np.concatenate(self._pieces, axis=1)[:, : self._limit()]
        return samples_CN.astype(np.float32, copy=False)

    def _begin(self, frame: av.AudioFrame) -> av.AudioResampler:
        self.sample_rate, self._count = frame.sample_rate, len(frame.layout.channels)
        low, high = SAMPLE_RATES
        if not low <= self.sample_rate <= high:
            raise MediaError(
                f"{self._path} has {self.sample_rate} samples of sound a second; export it at 16000 Hz or more."
                if self.sample_rate < low
                else f"{self._path} has {self.sample_rate} samples of sound a second; export it at 48000 Hz."
            )
        names = tuple(channel.name for channel in frame.layout.channels)
        self.channels = () if "NONE" in names else names
        # Interleaved, because PyAV 18 crashes on planar sound of eight channels or more.
        return av.AudioResampler(format="flt", layout=frame.layout, rate=self.sample_rate)

    def _limit(self) -> int:
        """Samples that are wanted; of a file without an end in sight one more than an hour's, which `_check` finds."""
        end = MAX_SECONDS if self._end is None else self._end
        return max(round(end * self.sample_rate), 1) + (self._end is None)

    def _check(self, more: int) -> None:
        if self._end is None and self._read + more > MAX_SECONDS * self.sample_rate:
            raise MediaError(f"{self._path} has more than {MAX_SECONDS} s of sound; ask for fewer seconds.")
        check_bytes(self._path, (self._read + more) * self._count * 4)


def has_audio(path: str | Path) -> bool:
    """Whether the file has an audio track. Raises MediaError as `read_audio` does."""
    with open_media(Path(path)) as container:
        return bool(container.streams.audio)
