"""Which files are opened, and which of their tracks."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from harmony_core.media import MediaError, has_audio, read_audio, read_image, read_video
from tests.media.files import order, shades, tone, write_frames


def write_tracks(path: Path, default: int | None) -> None:
    """Two mono tracks, 440 and 880 Hz."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(2)]
        for index, stream in enumerate(streams):
            stream.metadata["language"] = ("fra", "eng")[index]
            flag = stream.disposition.__class__
            stream.disposition = flag.default if index == default else flag(0)
        for stream, hertz in zip(streams, (440, 880), strict=True):
            samples = (tone(0.5, 16000, hertz) * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
            container.mux(stream.encode(frame))


@pytest.mark.parametrize(
    ("default", "track", "hertz", "note"),
    [
        (1, None, 880, "a.mkv: audio track 2 of 2 (eng), flagged default"),
        (0, None, 440, "a.mkv: audio track 1 of 2 (fra), flagged default"),
        (None, None, 440, "a.mkv: audio track 1 of 2 (fra), none is flagged default"),
        (1, 1, 440, "a.mkv: audio track 1 of 2 (fra), as asked"),
    ],
)
def test_the_default_track_is_taken_and_another_by_number(
    tmp_path: Path, default: int | None, track: int | None, hertz: int, note: str
) -> None:
    write_tracks(tmp_path / "a.mkv", default)
    clip = read_audio(tmp_path / "a.mkv", track=track)
    np.testing.assert_allclose(clip.samples[0], tone(0.5, 16000, hertz), atol=1e-4)
    assert clip.notes == (note,)
    with pytest.raises(MediaError, match=r"a\.mkv has no audio track 3; choose one from 1 to 2"):
        read_audio(tmp_path / "a.mkv", track=3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mp4", "ffconcat version 1.0\nfile other.mkv\n"),
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mkv\n"),
        ("a.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mkv\n#EXT-X-ENDLIST\n"),
        ("a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"),
        ("a.mpd", '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic"></MPD>'),
    ],
)
@pytest.mark.parametrize("read", [read_video, read_audio, has_audio])
def test_lists_of_other_files_are_not_followed(tmp_path: Path, name: str, text: str, read) -> None:
    write_frames(tmp_path / "other.mkv", "ffv1", shades(3), [0, 1, 2], Fraction(1, 10))
    (tmp_path / name).write_text(text)
    with pytest.raises(MediaError, match=rf"{name} cannot be read as media"):
        read(tmp_path / name)


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tcp:127.0.0.1:9", "a:b.mkv", "file:c.mkv", "concat:a|b", "-i"):
        write_frames(tmp_path / "plain.mkv", "ffv1", shades(3), [0, 1, 2], Fraction(1, 10))
        (tmp_path / "plain.mkv").rename(tmp_path / name)
        assert order(read_video(Path(name)).frames) == [0, 1, 2]
    with pytest.raises(MediaError, match=r"tcp:127.0.0.1:8 is missing"):
        read_video("tcp:127.0.0.1:8")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    for read in (read_video, read_audio, read_image):
        with pytest.raises(MediaError, match=r"a\.mp4 is no ordinary file"):
            read(tmp_path / "a.mp4")
