"""Opening media files: of known kinds, alone, and for no longer than they answer."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream

from .clips import MediaError

# FFmpeg's names of what holds its own pictures and sound. Not here: playlists, image sequences, devices, scripts.
DEMUXERS = (
    *("mov", "matroska", "avi", "asf", "flv", "mpegts", "mpeg", "mpegvideo", "mxf", "ogg", "nut", "ivf", "rm", "gxf"),
    *("wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "ac3", "eac3", "dts", "truehd", "amr", "ape", "wv"),
    *("tta", "voc", "h264", "hevc", "av1", "obu", "vc1", "m4v", "mjpeg", "mpjpeg", "yuv4mpegpipe", "dv", "gif", "apng"),
)
STALL_S = 30.0  # that one read may take

Track = TypeVar("Track", bound=Stream)


def as_file(path: Path) -> str:
    """The path for FFmpeg, which would take what stands before a colon for a protocol."""
    return f"file:{path}"


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Raises MediaError for a file that cannot be opened, and for what FFmpeg says while it is read."""
    require_file(path)
    options = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "file"}
    try:
        container = av.open(as_file(path), options=options, metadata_errors="ignore", timeout=STALL_S)
    except FFmpegError as error:
        if error.errno == errno.EINVAL:  # what format_whitelist answers
            raise MediaError(
                f"{path} cannot be read as media: it is of no known kind, or a list of other files; convert it to MP4 "
                "or WAV."
            ) from error
        raise _unreadable(path, error) from error
    with container:
        try:
            yield container
        except FFmpegError as error:
            raise _unreadable(path, error) from error


def pick_stream(
    tracks: Sequence[Track], path: Path, kind: Literal["video", "audio"], track: int | None = None
) -> tuple[Track, tuple[str, ...]]:
    """Of a file's tracks of one kind the default, else the first, or the one asked for by number from 1; and which.

    Raises:
        MediaError: no track of this kind, none of this number, or one in a codec that FFmpeg does not know.
    """
    streams = [each for each in tracks if not each.disposition & Disposition.attached_pic]
    if not streams:
        raise MediaError(
            f"{path} has no video track; give a video file, or use it as --audio."
            if kind == "video"
            else f"{path} has no audio track; give a file with sound."
        )
    if track is not None and not 1 <= track <= len(streams):
        raise MediaError(f"{path} has no {kind} track {track}; choose one from 1 to {len(streams)}.")
    flagged = [each for each in streams if each.disposition & Disposition.default]
    stream = streams[track - 1] if track is not None else (flagged or streams)[0]
    if stream.codec_context is None:
        raise MediaError(f"{path} has its {kind} in a codec that is not known; convert it to MP4 or WAV.")
    if len(streams) == 1:
        return stream, ()
    known = ", ".join(filter(None, (stream.metadata.get("language"), stream.metadata.get("title"))))
    why = "as asked" if track is not None else "flagged default" if flagged else "none is flagged default"
    number = f"{kind} track {streams.index(stream) + 1} of {len(streams)}"
    return stream, (f"{path.name}: {number}{f' ({known[:80]})' if known else ''}, {why}",)


def require_file(path: Path) -> None:
    """Raises MediaError for what is no ordinary file: a pipe would be waited for."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no ordinary file" if path.exists() else "missing"
        raise MediaError(f"{path} is {what}; give the path of a media file.")


def one_line(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0][:200]


def _unreadable(path: Path, error: FFmpegError) -> MediaError:
    return MediaError(f"{path} cannot be read as media ({one_line(error)}); convert it to MP4 or WAV.")
