"""Frames of every transfer, matrix, shape and transparency to plain RGB."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from harmony_core.media import read_video

BARS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (255, 255, 255)]


def write_bars(path: Path, height: int, tags: dict[str, int], codes: list, pix_fmt: str, matrix: str) -> None:
    """Bars of the given 16-bit RGB codes, lossless."""
    picture = np.repeat(np.array(codes, np.uint16), height // 4, axis=0)[None].repeat(height, 0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = pix_fmt
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb48le")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=matrix)
            frame.colorspace = tags.get("colorspace", 2)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def bars_read(path: Path) -> np.ndarray:
    frame = read_video(path).frames[0]
    width = frame.shape[1] // 5
    return frame[frame.shape[0] // 2, width // 2 :: width].astype(int)


@pytest.mark.parametrize(("height", "matrix", "notes"), [(720, "itu709", 1), (480, "itu601", 0)])
def test_untagged_video_is_of_the_matrix_of_its_size(tmp_path: Path, height: int, matrix: str, notes: int) -> None:
    codes = [[257 * value for value in bar] for bar in BARS]
    write_bars(tmp_path / "a.mkv", height, {}, codes, "yuv444p", matrix)
    np.testing.assert_allclose(bars_read(tmp_path / "a.mkv"), BARS, atol=2)
    said = ("a.mkv: no colour matrix is stated, read as BT.709",)
    assert read_video(tmp_path / "a.mkv").notes == said[:notes]


TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def pq(nits: np.ndarray) -> np.ndarray:
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(nits: np.ndarray) -> np.ndarray:
    """Of a screen of 1000 cd/m2."""
    luminance = (nits / 1000) @ np.array([0.2627, 0.6780, 0.0593])
    scene = nits / 1000 * luminance.clip(1e-9)[:, None] ** (1 / 1.2 - 1)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log((12 * scene - 0.28466892).clip(1e-9)) + 0.55991073
    )


@pytest.mark.parametrize(("name", "transfer", "encode"), [("PQ", 16, pq), ("HLG", 18, hlg)])
def test_hdr_is_tone_mapped(tmp_path: Path, name: str, transfer: int, encode) -> None:
    """SDR bars with their white at 203 cd/m2 come back as they were, but for the shoulder that highlights need."""
    linear = np.where(np.array(BARS) > 127, (np.array(BARS) / 255) ** 2.2, 0)
    codes = (encode(linear * 203 @ TO_BT2020.T) * 65535).round().astype(int)
    tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    write_bars(tmp_path / "a.mkv", 240, tags, codes, "yuv444p10le", "bt2020")
    read = bars_read(tmp_path / "a.mkv")
    np.testing.assert_allclose(read, BARS, atol=11)
    np.testing.assert_allclose(read[3], 128, atol=3)
    brighter = (encode(np.array([[1000.0, 1000, 1000]] * 5)) * 65535).round().clip(0, 65535).astype(int)
    write_bars(tmp_path / "b.mkv", 240, tags, brighter, "yuv444p10le", "bt2020")
    assert bars_read(tmp_path / "b.mkv").min() >= 253 > read[4].max() > 240
    assert read_video(tmp_path / "a.mkv").notes == (f"a.mkv: HDR ({name}) tone-mapped to SDR",)


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(2), (192, 48)), (Fraction(1, 2), (96, 96)), (Fraction(99), (96, 48))]
)
def test_pixels_are_made_square(tmp_path: Path, aspect: Fraction, size: tuple[int, int]) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        picture = np.full((48, 96, 3), 64, np.uint8)
        picture[12:36, 24:72] = 255
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    clip = read_video(path)
    assert clip.size == size
    frame = clip.frames[0]
    assert frame.shape[:2] == size[::-1]
    np.testing.assert_allclose(frame[size[1] // 2, [2, size[0] // 2, -3], 0], [64, 255, 64], atol=2)
    assert len(clip.notes) == (size != (96, 48))
    assert read_video(path, short_side=24).frames.shape[1:3] == (24, round(24 * size[0] / size[1]))


def test_transparent_video_shows_white(tmp_path: Path) -> None:
    picture = np.full((48, 64, 4), (250, 0, 250, 0), np.uint8)
    picture[:, :32] = 30, 60, 90, 255
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva444p"
        frame = av.VideoFrame.from_ndarray(picture, "rgba").reformat(format="yuva444p")
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    clip = read_video(tmp_path / "a.mkv")
    np.testing.assert_allclose(clip.frames[0][20, 10], (30, 60, 90), atol=2)
    assert (clip.frames[0][20, 50] == 255).all()
    assert clip.notes == ("a.mkv: transparent parts are shown on white",)
