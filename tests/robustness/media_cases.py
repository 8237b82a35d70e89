"""Hostile pictures, films and sounds."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from PIL import Image

from harmony_core.media import has_audio, read_audio, read_picture, read_video

from .watch import Case

PICTURES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif", "PPM": ".ppm"}
CONTAINERS = {  # container -> video codec, audio codec
    "mp4": ("libx264", "aac"),
    "mov": ("mpeg4", "aac"),
    "matroska": ("libx264", "flac"),
    "webm": ("libvpx-vp9", "libopus"),
    "avi": ("mpeg4", "pcm_s16le"),
    "mpegts": ("libx264", "aac"),
    "nut": ("ffv1", "pcm_s16le"),
    "wav": (None, "pcm_s16le"),
    "flac": (None, "flac"),
    "ogg": (None, "libopus"),
    "aiff": (None, "pcm_s16be"),
    "gif": ("gif", None),
}


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Damage as it happens and as it is made: flips, cuts, runs moved, doubled, zeroed, lengths overwritten."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16, 64])):
        if not out:
            break
        at, how = rng.randrange(len(out)), rng.randrange(7)
        if how == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del out[at:]
        elif how == 2:
            out[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
        elif how == 3:
            out[at:at] = out[max(0, at - rng.randrange(1, 200)) : at]
        elif how == 4:
            out[at : at + rng.randrange(1, 300)] = bytes(rng.randrange(1, 300))
        elif how == 5:
            del out[at : at + rng.randrange(1, 300)]
        else:
            out[at] = rng.randrange(256)
    return bytes(out)


# Pictures


def picture_bytes(rng: random.Random, form: str) -> bytes:
    size = rng.choice([(1, 1), (7, 5), (33, 64), (160, 90)])
    modes = {"PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"], "TIFF": ["1", "L", "RGB", "RGBA", "CMYK", "F", "I"]}
    mode = rng.choice(modes.get(form, ["L", "RGB"]))
    image = Image.effect_noise(size, 60).convert(mode)
    extra = {}
    if rng.random() < 0.3 and form in ("PNG", "JPEG", "TIFF", "WEBP"):
        extra["icc_profile"] = rng.randbytes(rng.choice([0, 10, 128, 4000]))
    if rng.random() < 0.3 and form in ("JPEG", "WEBP", "PNG"):
        extra["exif"] = b"Exif\0\0" + rng.choice([b"II*\0\x08\0\0\0", b"MM\0*"]) + rng.randbytes(40)
    buffer = io.BytesIO()
    image.save(buffer, form, **extra)
    return buffer.getvalue()


def _png(width: int, height: int, chunks: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """A PNG that states any size."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = (b"IDAT", zlib.compress(bytes(3 * 64)))
    out = b"\x89PNG\r\n\x1a\n"
    for name, body in (header, *chunks, rows, (b"IEND", b"")):
        out += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return out


def _text_bomb() -> bytes:
    squeezed = zlib.compress(bytes(200 * 2**20), 9)
    return _png(4, 4, ((b"zTXt", b"Comment\0\0" + squeezed),) * 3 + ((b"iCCP", b"p\0\0" + squeezed),))


NO_PICTURES: tuple[Callable[[random.Random], bytes], ...] = (
    lambda rng: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary.txt) (w) file closefile\nshowpage\n",
    lambda rng: b"\xc5\xd0\xd3\xc6" + struct.pack("<IIIIII", 30, 200, 0, 0, 0, 0) + b"%!PS (canary.txt) (w) file\n",
    lambda rng: b"%PDF-1.4\n1 0 obj<</Type/Catalog/OpenAction<</S/Launch/F(touch canary.txt)>>>>endobj\n",
    lambda rng: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1:9/x.png"/></svg>',
    lambda rng: b"#!/bin/sh\ntouch canary.txt\n",
    lambda rng: b"push graphic-context\nimage over 0,0 0,0 'ephemeral:canary.txt'\npop graphic-context\n",
    lambda rng: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3) + rng.randbytes(100),
    lambda rng: _png(rng.choice([2**31 - 1, 60_000, 100_000]), rng.choice([2**31 - 1, 60_000, 4])),
    lambda rng: _text_bomb(),
    lambda rng: b"",
    lambda rng: rng.randbytes(rng.choice([1, 8, 1000])),
    lambda rng: b"P6 " + str(rng.choice([10**9, 2**62, -1])).encode() + b" 10000 255\n",
    lambda rng: b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x08" + rng.randbytes(60),
    lambda rng: b"II*\0\x08\0\0\0" + struct.pack("<H", 65_000) + rng.randbytes(500),
    lambda rng: b"\0\0\0\x0cjP  \r\n\x87\n" + rng.randbytes(200),
    lambda rng: b"\0\0\x01\0\xff\xff" + rng.randbytes(400),
    lambda rng: b"import os\nos.system('touch canary.txt')\n",
)


def picture(rng: random.Random, folder: Path) -> Case:
    form = rng.choice(list(PICTURES))
    if rng.random() < 0.3:
        data = rng.choice(NO_PICTURES)(rng)
    else:
        data = picture_bytes(rng, form)
        data = mutated(rng, data) if rng.random() < 0.9 else data
    path = folder / odd_name(rng, rng.choice(list(PICTURES.values())))
    path.write_bytes(data)

    def run() -> None:
        pixels, notes = read_picture(path)
        assert pixels.dtype == np.uint8, pixels.dtype
        assert pixels.ndim == 3 and pixels.shape[2] == 3, pixels.shape
        assert all(len(note) < 500 for note in notes)

    return Case(run)


def odd_name(rng: random.Random, suffix: str) -> str:
    """A file's name that something might take for more than a name."""
    names = ["a", "a:b", "http:x", "file:b", "-i", "%05d", "*", "concat:a|b", "pipe:0", "ü\u202e\x1b[31m", "a\nb", "'"]
    return rng.choice(["a"] * 6 + names) + suffix


# Films and sounds


@lru_cache(maxsize=64)
def film_bytes(container: str, seed: int) -> bytes:
    """A second or so, some with odd rates, gaps and late starts in their timestamps, where the container has them."""
    try:
        return _write_film(container, seed, odd_times=True)
    except av.error.FFmpegError:
        return _write_film(container, seed, odd_times=False)


def _write_film(container: str, seed: int, odd_times: bool) -> bytes:
    rng = random.Random(f"film-{container}-{seed}")
    video_codec, audio_codec = CONTAINERS[container]
    buffer = io.BytesIO()
    lead = rng.choice([0, 0, 0, 1, 3_000, 100_000]) * odd_times
    gap = rng.choice([0, 0, 0, 2, 900, 50_000]) * odd_times
    with av.open(buffer, "w", format=container) as output:
        streams = []
        if video_codec:
            odd_rates = [Fraction(8), Fraction(30000, 1001), Fraction(1, 2), Fraction(240)]
            rate = rng.choice([Fraction(25), *odd_rates]) if odd_times else Fraction(25)
            video = output.add_stream(video_codec, rate=rate)
            video.width, video.height = rng.choice([(32, 32), (64, 48), (16, 128)])
            video.pix_fmt = {"gif": "rgb8"}.get(container, "yuv420p")
            streams.append((video, _pictures(video, rate, lead, gap)))
        if audio_codec:
            audio = output.add_stream(audio_codec, rate=48_000)
            audio.layout = rng.choice(["mono", "stereo"])
            streams.append((audio, _sounds(audio, lead, gap)))
        for stream, frames in streams:
            for frame in frames:
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return buffer.getvalue()


def _pictures(stream: av.VideoStream, rate: Fraction, lead: int, gap: int) -> list[av.VideoFrame]:
    frames = []
    for index in range(8):
        frame = av.VideoFrame.from_ndarray(np.full((stream.height, stream.width, 3), 30 * index, np.uint8))
        frame = frame.reformat(format=stream.pix_fmt)
        seconds = index / rate + lead + gap * (index > 4)
        frame.time_base, frame.pts = Fraction(1, 90_000), int(seconds * 90_000)
        frames.append(frame)
    return frames


def _sounds(stream: av.AudioStream, lead: int, gap: int) -> list[av.AudioFrame]:
    codec = stream.codec_context
    channels, size = codec.layout.nb_channels, 960
    frames = []
    for index in range(20):
        planar = codec.format.is_planar
        dtype = {"s16": np.int16, "s16p": np.int16, "s32": np.int32, "flt": np.float32, "fltp": np.float32}
        shape = (channels, size) if planar else (1, channels * size)
        frame = av.AudioFrame.from_ndarray(np.zeros(shape, dtype[codec.format.name]), codec.format.name, codec.layout)
        frame.sample_rate, frame.time_base = 48_000, Fraction(1, 48_000)
        frame.pts = index * size + 48_000 * (lead + gap * (index > 10))
        frames.append(frame)
    return frames


def _playlists(neighbour: Path) -> tuple[bytes, ...]:
    name = neighbour.name.encode()
    return (
        b"ffconcat version 1.0\nfile " + name + b"\n",
        b"ffconcat version 1.0\nfile '" + str(neighbour).encode() + b"'\nduration 1e9\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n" + name + b"\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        b'#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-KEY:METHOD=AES-128,URI="' + name + b'"\n#EXTINF:9,\n' + name,
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet><Representation>'
        b"<BaseURL>" + name + b"</BaseURL></Representation></AdaptationSet></Period></MPD>",
        b"[playlist]\nFile1=" + name + b"\nNumberOfEntries=1\n",
        b"1\n00:00:00,000 --> 99:00:00,000\nwords\n",
        b"[Script Info]\nTitle: x\n[Events]\nDialogue: 0,0:00:00.00,9:00:00.00,Default,,0,0,0,,x\n",
        b";FFMETADATA1\ntitle=x\n",
        b'AviSource("' + name + b'")\n',
        b"import vapoursynth as vs\nopen('canary.txt', 'w')\n",
    )


def film(rng: random.Random, folder: Path) -> Case:
    container = rng.choice(list(CONTAINERS))
    good = film_bytes(container, rng.randrange(4))
    neighbour = folder / "neighbour.mp4"
    neighbour.write_bytes(film_bytes("mp4", 0))
    data = rng.choice(_playlists(neighbour)) if rng.random() < 0.15 else good
    if data is good and rng.random() < 0.85:
        data = mutated(rng, good)
    suffixes = [".mp4", ".mkv", ".wav", ".mov", ".webm", ".ts", ".m3u8", ".txt", ".ffconcat", ".avi"]
    path = folder / odd_name(rng, rng.choice(suffixes))
    path.write_bytes(data)
    seconds = rng.choice([0.5, 2.0])

    def run() -> None:
        errors = []
        for read in (
            lambda: read_video(path, seconds=seconds, short_side=48),
            lambda: read_audio(path, seconds=seconds, track=rng.choice([None, None, 1, 2, 10**9])),
            lambda: has_audio(path),
        ):
            try:
                _check(read(), seconds)
            except (ValueError, OSError) as error:
                errors.append(error)
        if errors:
            raise errors[rng.randrange(len(errors))]

    return Case(run, (neighbour,))


def _check(clip: object, seconds: float) -> None:
    """No more than was asked for."""
    if hasattr(clip, "frames"):
        assert clip.frames.dtype == np.uint8
        assert float(clip.duration_s) <= seconds + 2 / float(clip.fps) + 1e-6, clip.duration_s
    elif hasattr(clip, "samples"):
        assert np.isfinite(clip.samples).all()
        assert float(clip.duration_s) <= seconds + 0.1, clip.duration_s


CASES = {"picture": picture, "film": film}
