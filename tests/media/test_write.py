"""Writing MP4s."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from harmony_core.media import (
    AudioClip,
    MediaError,
    check_size,
    has_audio,
    read_audio,
    read_video,
    writable_sound,
    write_video,
)
from harmony_core.outputs import OutputError
from tests.media.files import BLUE, RED


@pytest.mark.parametrize(
    ("fps", "count", "rate", "channels"),
    [
        (Fraction(25, 2), 25, 16000, 1),
        (Fraction(24), 121, 16000, 1),
        (Fraction(24), 50, 48000, 2),
        (Fraction(30000, 1001), 60, 44100, 1),
    ],
)
def test_written_tracks_begin_together_and_are_equally_long(
    tmp_path: Path, fps: Fraction, count: int, rate: int, channels: int
) -> None:
    frames = np.full((count, 64, 64, 3), RED, np.uint8)
    frames[5:] = BLUE
    samples = np.zeros((channels, round(count / fps * rate)), np.float32)
    click = round(5 / fps * rate)
    samples[:, click : click + 200] = 0.9 * np.hanning(200)
    path = tmp_path / "clip.mp4"
    write_video(path, frames, fps, samples, rate)
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert video.codec_context.pix_fmt == "yuv420p"
        assert not video.codec_context.has_b_frames
        assert video.start_time == audio.start_time == 0
        lengths = [stream.duration * stream.time_base for stream in (video, audio)]
        assert abs(lengths[0] - lengths[1]) < 1 / fps
    assert path.read_bytes().find(b"moov") < path.read_bytes().find(b"mdat")

    clip, sound = read_video(path), read_audio(path)
    assert clip.fps == fps
    assert clip.frames.shape == frames.shape
    np.testing.assert_allclose(clip.frames[[0, 4, 5, -1], 32, 32], [RED, RED, BLUE, BLUE], atol=6)
    assert sound.samples.shape[0] == channels
    assert abs(sound.samples.shape[1] - samples.shape[1]) <= 0.002 * rate
    assert abs(np.abs(sound.samples[0]).argmax() - click - 100) < 0.002 * rate


def test_colours_survive_and_small_clips_are_enlarged(tmp_path: Path) -> None:
    frames = np.zeros((6, 16, 16, 3), np.uint8)
    frames[:, ::2, ::2], frames[:, 1::2, 1::2] = RED, BLUE
    write_video(tmp_path / "a.mp4", frames, Fraction(10), None, 0, scale=8, smooth=False)
    clip = read_video(tmp_path / "a.mp4")
    assert clip.frames.shape == (6, 128, 128, 3)
    error = np.abs(clip.frames[:, 4::8, 4::8].astype(int) - frames)
    assert error.mean() < 4
    assert not has_audio(tmp_path / "a.mp4")


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    with pytest.raises(OutputError, match=r"Cannot write .*choose another output"):
        write_video(tmp_path / "file" / "a.mp4", frames, Fraction(10), None, 0)
    with pytest.raises(MediaError, match=r"\.mp4"):
        write_video(tmp_path / "a.webm", frames, Fraction(10), None, 0)
    with pytest.raises(MediaError, match="even"):
        write_video(tmp_path / "a.mp4", frames[:, :15], Fraction(10), None, 0)
    with pytest.raises(MediaError, match="frame"):
        write_video(tmp_path / "a.mp4", frames[:0], Fraction(10), None, 0)
    with pytest.raises(MediaError, match="AAC has no rate of 22254 Hz; resample it to one of 8000, "):
        write_video(tmp_path / "a.mp4", frames, Fraction(10), np.zeros((1, 4800), np.float32), 22254)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a:b.mp4", "tcp:127.0.0.1:9.mp4"):
        write_video(name, np.zeros((3, 16, 16, 3), np.uint8), Fraction(10), None, 0)
        assert len(read_video(name).frames) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a:b.mp4", "tcp:127.0.0.1:9.mp4"]


@pytest.mark.parametrize("channels", [("FC",), ("FL", "FR"), ("FL", "FR", "FC"), ("FL", "FR", "FC", "LFE", "SL", "SR")])
def test_channels_stay_where_they_are(tmp_path: Path, channels: tuple[str, ...]) -> None:
    samples = np.stack([0.3 * np.sin(np.arange(48000) * 0.01 * (k + 1)) for k in range(len(channels))])
    frames = np.zeros((25, 16, 16, 3), np.uint8)
    options = {"channels": channels, "bit_rate": 256_000 * len(channels), "comment": '{"prompt": "é"}'}
    write_video(tmp_path / "a.mp4", iter(frames), Fraction(25), samples.astype(np.float32), 48000, **options)
    clip = read_audio(tmp_path / "a.mp4")
    assert len(clip.channels) == len(channels)
    for name, wanted in zip(channels, samples, strict=True):
        if name != "LFE":  # AAC keeps its lowest frequencies alone
            place = clip.channels.index(name.replace("S", "B"))
            np.testing.assert_allclose(clip.samples[place], wanted[: clip.samples.shape[1]], atol=0.03)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.metadata["comment"] == options["comment"]


@pytest.mark.parametrize("layout", ["6.0", "6.0(front)", "3.1.2", "4.1", "hexagonal"])
def test_channels_without_a_name_in_aac_become_one(tmp_path: Path, layout: str) -> None:
    """FFmpeg crashes on some of them, and writes others that no reader can name."""
    names = tuple(channel.name for channel in av.AudioLayout(layout).channels)
    sound = AudioClip(np.full((len(names), 4800), 0.1, np.float32), 48000, "a.wav", channels=names)
    written, notes = writable_sound(sound)
    assert notes == (f"a.wav: {'+'.join(names)} -> mono, films have no such channels",)
    assert (len(written.samples), written.channels) == (1, ())
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames, Fraction(25), written.samples, 48000, channels=written.channels)
    assert len(read_audio(tmp_path / "a.mp4").samples) == 1


@pytest.mark.parametrize("names", [("FC",), ("FL", "FR", "LFE"), ("FL", "FR", "SL", "SR"), ()])
def test_channels_that_aac_names_are_left_alone(names: tuple[str, ...]) -> None:
    sound = AudioClip(np.zeros((max(1, len(names)), 480), np.float32), 48000, channels=names)
    assert writable_sound(sound) == (sound, ())


def test_a_failed_write_leaves_the_old_clip(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"the old clip")
    with pytest.raises(ValueError, match="AAC is written with 1 to 6 channels, not 7"):
        write_video(tmp_path / "a.mp4", np.zeros((3, 16, 16, 3), np.uint8), Fraction(10), np.zeros((7, 4800)), 16000)
    assert (tmp_path / "a.mp4").read_bytes() == b"the old clip"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_sizes_that_h264_does_not_take() -> None:
    check_size(8192, 16)
    with pytest.raises(MediaError, match=r"16x8194 is too large, H\.264 goes to 8192; take a smaller scale"):
        check_size(16, 8194)
    with pytest.raises(MediaError, match="even sizes, not 16x17"):
        check_size(16, 17)
