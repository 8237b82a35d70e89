"""Video, sound and pictures: files to arrays, arrays to the lengths of a clip, arrays to MP4. PyAV and Pillow only.

Both tracks of a file are read on one clock, the container's: a track that begins late is led in by its first frame or
by silence, so that what is in sync in the file is in sync in the arrays.

Shape suffixes: F frames, H height, W width, C audio channels, N samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps

from .geometry import ClipGeometry

FALLBACK_FPS = Fraction(25)  # for a single picture, which has no rate
MIN_SAMPLE_RATE = 100  # Hz; FFmpeg makes nothing of a few samples a second
MAX_SIDE = 8192  # pixels; players take no larger H.264
AAC_BIT_RATE = 160_000


class MediaError(ValueError):
    """A media file that cannot be read or written; the message names the path and the fix."""


@dataclass(frozen=True)
class VideoClip:
    """Pictures at a constant rate. `frames` is uint8 RGB [F,H,W,3]; `size` is width and height before any shrinking."""

    frames: np.ndarray
    fps: Fraction
    name: str = "video"
    size: tuple[int, int] | None = None

    @property
    def duration_s(self) -> float:
        return float(len(self.frames) / self.fps)


@dataclass(frozen=True)
class AudioClip:
    """Sound. `samples` is float32 [C,N] in -1..1."""

    samples: np.ndarray
    sample_rate: int
    name: str = "audio"

    @property
    def duration_s(self) -> float:
        return self.samples.shape[1] / self.sample_rate


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
        raise MediaError(f"{path} is not a picture that can be read ({_one_line(error)}); use PNG or JPEG.") from error


def fit_video(clip: VideoClip, geometry: ClipGeometry) -> tuple[np.ndarray, tuple[str, ...]]:
    """`geometry.num_frames` frames of the clip at the geometry's rate and size, and what was changed, in words.

    Frames are the nearest in time; sizes are covered and cropped at the centre; a short clip holds its last frame.

    Returns:
        uint8 [F,H,W,3], notes.
    """
    count, notes = len(clip.frames), []
    available = max(1, round(count / clip.fps * geometry.fps))
    if clip.fps != geometry.fps:
        notes.append(f"{clip.name}: {float(clip.fps):g} fps -> {float(geometry.fps):g} fps")
    notes += _length_note(clip.name, available / geometry.fps, geometry.duration_s, "its last frame")
    shown = [min(round(k * clip.fps / geometry.fps), count - 1) for k in range(geometry.num_frames)]
    fitted = [fit_image(clip.frames[k], geometry.height, geometry.width, clip.name, clip.size) for k in shown]
    return np.stack([frame for frame, _ in fitted]), (*notes, *fitted[0][1])


def fit_image(
    image: np.ndarray, height: int, width: int, name: str = "image", size: tuple[int, int] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The picture, uint8 [H,W,3], scaled to cover height x width and cropped at the centre, and notes.

    `size` is the width and height that the notes state, of a picture that was shrunk before.
    """
    source_height, source_width = image.shape[:2]
    stated_width, stated_height = size or (source_width, source_height)
    if (source_height, source_width) == (stated_height, stated_width) == (height, width):
        return image, ()
    scale = max(height / source_height, width / source_width)
    crop_height, crop_width = height / scale, width / scale
    top, left = (source_height - crop_height) / 2, (source_width - crop_width) / 2
    box = (left, top, left + crop_width, top + crop_height)
    fitted = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box=box)
    note = f"{name}: {stated_width}x{stated_height} -> {width}x{height}"
    cropped = source_width - crop_width >= 0.5 or source_height - crop_height >= 0.5
    return np.array(fitted), (note + (", cropped at the centre" if cropped else ""),)


def fit_reference_image(image: np.ndarray, height: int, width: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The whole picture, uint8 [H,W,3], as large as it fits, centred on white (as DreamID-Omni does), and notes."""
    source_height, source_width = image.shape[:2]
    if (source_height, source_width) == (height, width):
        return image, ()
    fitted = ImageOps.pad(Image.fromarray(image), (width, height), Image.Resampling.LANCZOS, color="white")
    return np.array(fitted), (f"reference image: {source_width}x{source_height} -> {width}x{height}, whole",)


def fit_audio(clip: AudioClip, num_samples: int, sample_rate: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """`num_samples` mono samples of the clip at `sample_rate`, and what was changed, in words.

    Channels are averaged; a short clip is followed by silence.

    Returns:
        float32 [N], notes.
    """
    channels, notes = len(clip.samples), []
    fitted_N = resample(clip.samples.mean(0, dtype=np.float32), clip.sample_rate, sample_rate)
    if (clip.sample_rate, channels) != (sample_rate, 1):
        kind = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
        notes.append(f"{clip.name}: {clip.sample_rate} Hz {kind} -> {sample_rate} Hz mono")
    notes += _length_note(clip.name, len(fitted_N) / sample_rate, num_samples / sample_rate, "silence")
    fitted_N = np.pad(fitted_N[:num_samples], (0, max(0, num_samples - len(fitted_N))))
    return fitted_N, tuple(notes)


def resample(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Band-limited resampling of one channel between any two rates: [N] -> float32 [round(N * target / source)].

    FFmpeg's, because torchaudio's kernel takes gigabytes when the rates share no divisor.
    """
    if source_rate == target_rate:
        return samples.astype(np.float32)
    # A second of silence either side, a whole number of samples at any rate, takes in the filter's edges.
    padded_CN = np.pad(samples, source_rate)[None].astype(np.float32)
    frame = av.AudioFrame.from_ndarray(padded_CN, "fltp", "mono")
    frame.sample_rate = source_rate
    converter = av.AudioResampler(format="fltp", layout="mono", rate=target_rate)
    chunks = [out.to_ndarray()[0] for part in (frame, None) for out in converter.resample(part)]
    length = round(len(samples) * target_rate / source_rate)
    return np.concatenate(chunks)[target_rate : target_rate + length]


def prepare_output(path: str | Path) -> Path:
    """The path, its folder made and proven writable, so that nothing is computed for a file that cannot be saved.

    Raises:
        MediaError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise MediaError(f"Cannot write {path} ({reason}); choose another output with -o.") from error
    return path


def check_overwrites(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None]) -> None:
    """Outputs, by option, are files of their own; None is one that is not asked for.

    Raises:
        MediaError: an output is also an input or another output.
    """
    taken = {path.resolve(): "an input" for path in inputs if path is not None}
    for name, path in outputs.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise MediaError(f"{name} would overwrite {taken[path.resolve()]} ({path}); choose another name.")
        taken[path.resolve()] = name


def check_size(width: int, height: int) -> None:
    """Raises MediaError for a picture that H.264 does not take."""
    if width % 2 or height % 2:
        raise MediaError(f"H.264 needs even sizes, not {width}x{height}; crop by one pixel.")
    if max(width, height) > MAX_SIDE:
        raise MediaError(f"A video of {width}x{height} is too large, H.264 goes to {MAX_SIDE}; take a smaller scale.")


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
        raise MediaError(f"Cannot write {path} ({_one_line(error)}); choose another output.") from error
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
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
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


@contextmanager
def _open(path: Path) -> Iterator[av.container.InputContainer]:
    _require_file(path)
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            yield container
    except av.FFmpegError as error:
        raise MediaError(f"{path} cannot be read as media ({_one_line(error)}); convert it to MP4 or WAV.") from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise MediaError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; give the path of a media file.")


def _one_line(error: Exception) -> str:
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


def _enlarged(picture_HWC: np.ndarray, scale: int, smooth: bool) -> av.VideoFrame:
    if scale != 1:
        height, width = picture_HWC.shape[:2]
        method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
        picture_HWC = np.array(Image.fromarray(picture_HWC).resize((width * scale, height * scale), method))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), format="rgb24")


def _length_note(name: str, have_s: float | Fraction, want_s: float | Fraction, filler: str) -> list[str]:
    have_s, want_s = float(have_s), float(want_s)
    if abs(have_s - want_s) < 0.005:
        return []
    how = "cut to" if have_s > want_s else f"continued with {filler} to"
    return [f"{name}: {have_s:.2f} s {how} {want_s:.2f} s"]
