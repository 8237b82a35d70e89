"""Reading any video and sound file."""

from __future__ import annotations

import io
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from harmony_core.benchmarks.timing import Meter
from harmony_core.media import (
    MediaError,
    fit_video,
    on_frames,
    own_frames,
    read_audio,
    read_image,
    read_video,
    write_video,
)
from tests.media.files import order, shades, tone, write_audio, write_frames
from tests.media.test_fit import tiny_geometry


@pytest.mark.parametrize(
    ("second", "shown"),
    [
        (range(10), [*range(10), *range(10, 20)]),
        (range(1), [*range(10), 10]),
        (range(57, 67), [*range(9), *range(12, 20)]),
    ],
    ids=["anew", "one frame", "overlap"],
)
def test_a_clock_that_begins_anew_costs_no_picture(tmp_path: Path, second: range, shown: list[int]) -> None:
    """Recorders append to a file: pictures go on after those that came. Of what overlaps one is shown."""
    parts = []
    for pictures, pts in ((shades(10), range(50, 60)), (shades(20)[10:], second)):
        write_frames(tmp_path / "part.ts", "mpeg2video", pictures[: len(pts)], [*pts], Fraction(1, 25))
        parts.append((tmp_path / "part.ts").read_bytes())
    (tmp_path / "whole.ts").write_bytes(b"".join(parts))
    clip = read_video(tmp_path / "whole.ts")
    assert order(clip.frames) == shown
    assert clip.fps == 25


def test_a_sound_far_above_full_scale_is_lowered_and_said(tmp_path: Path) -> None:
    for peak, heard, notes in ((2.4, 1.0, ("a.wav: its peak is 2.4 times full scale, lowered to 1",)), (1.2, 1.2, ())):
        samples = peak * np.sin(np.arange(1600) * np.pi / 8).astype(np.float32)
        write_audio(tmp_path / "a.wav", "pcm_f32le", 16000, "mono", samples)
        clip = read_audio(tmp_path / "a.wav")
        assert clip.notes == notes
        assert np.allclose(clip.samples[0], samples * heard / peak, atol=1e-6)


def test_samples_that_are_no_numbers_are_silence_and_said(tmp_path: Path) -> None:
    samples = np.full(1600, 0.25, np.float32)
    samples[[3, 4, 9]] = np.nan, np.inf, -np.inf
    write_audio(tmp_path / "holes.wav", "pcm_f32le", 16000, "mono", samples)
    clip = read_audio(tmp_path / "holes.wav")
    assert clip.notes == ("holes.wav: 3 samples that are no numbers replaced by silence",)
    assert np.array_equal(clip.samples[0], np.where(np.isfinite(samples), samples, 0))


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        ("a.wav", "pcm_s16le", 44100, "stereo"),
        ("a.wav", "pcm_u8", 8000, "mono"),
        ("a.wav", "pcm_s24le", 96000, "mono"),
        ("a.flac", "flac", 22050, "5.1"),
        ("a.mp3", "libmp3lame", 44100, "stereo"),
        ("a.ogg", "libopus", 48000, "mono"),
        ("a.m4a", "aac", 32000, "stereo"),
        ("a.mkv", "aac", 48000, "mono"),
    ],
)
def test_any_sound_is_read_in_full_and_on_time(tmp_path: Path, name: str, codec: str, rate: int, layout: str) -> None:
    samples = np.zeros(rate, np.float32)
    samples[rate // 2 : rate // 2 + rate // 20] = tone(0.05, rate, 1000)
    write_audio(tmp_path / name, codec, rate, layout, samples)
    clip = read_audio(tmp_path / name)
    assert clip.sample_rate == rate
    assert clip.samples.dtype == np.float32
    assert len(clip.samples) == av.AudioLayout(layout).nb_channels
    assert clip.duration_s == pytest.approx(1.0, abs=0.06)
    loud = np.flatnonzero(np.abs(clip.samples[0]) > 0.2) / rate
    assert loud[[0, -1]] == pytest.approx([0.5, 0.55], abs=0.005)
    assert np.abs(clip.samples[0]).max() == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("channels", [7, 8, 16])
def test_sound_of_many_channels_is_read_channel_by_channel(tmp_path: Path, channels: int) -> None:
    samples_NC = np.random.default_rng(0).integers(-30000, 30000, (800, channels)).astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((channels, 2, 8000, 0, "NONE", ""))
        file.writeframes(samples_NC.tobytes())
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav").samples, samples_NC.T / np.float32(32768))


@pytest.mark.parametrize("rate", [1, 7])
def test_a_few_samples_a_second_are_no_sound(tmp_path: Path, rate: int) -> None:
    with wave.open(str(tmp_path / "slow.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(bytes(40))
    with pytest.raises(MediaError, match=rf"slow\.wav has {rate} samples of sound a second; export it at 16000"):
        read_audio(tmp_path / "slow.wav")


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.avi", "mpeg4"), ("a.webm", "libvpx")])
def test_any_video_is_read(tmp_path: Path, name: str, codec: str) -> None:
    write_frames(tmp_path / name, codec, shades(12), list(range(12)), Fraction(1, 20))
    clip = read_video(tmp_path / name)
    assert clip.fps == 20
    assert order(clip.frames) == list(range(12))


def test_variable_frame_rate_goes_by_timestamps(tmp_path: Path) -> None:
    # 0 is shown for 100 ms, 1 for 300 ms, 2 and 3 for 100 ms each.
    write_frames(tmp_path / "a.mkv", "ffv1", shades(4), [0, 100, 400, 500], Fraction(1, 1000))
    clip = read_video(tmp_path / "a.mkv")
    shown = [order(clip.frames)[min(round(t * clip.fps), len(clip.frames) - 1)] for t in (0.0, 0.1, 0.2, 0.4, 0.5)]
    assert shown == [0, 1, 1, 2, 3]


def test_a_webm_that_states_no_rate_goes_by_timestamps(tmp_path: Path) -> None:
    """As browsers record it. FFmpeg would take its clock, 1000 a second, for the rate."""
    path = tmp_path / "a.webm"
    write_frames(path, "libvpx", shades(2), [0, 50], Fraction(1, 1000))
    data = path.read_bytes()
    duration = data.index(bytes.fromhex("23E38383"))  # DefaultDuration, of 3 bytes
    path.write_bytes(data[:duration] + bytes.fromhex("EC85") + bytes(5) + data[duration + 7 :])  # a Void of its length
    clip = read_video(path)
    assert clip.fps == 20
    assert order(clip.frames) == [0, 1]


def test_a_change_of_size_is_an_error(tmp_path: Path) -> None:
    parts = []
    for height in (48, 64):
        buffer = io.BytesIO()
        Image.new("RGB", (64, height)).save(buffer, "jpeg")
        parts += [buffer.getvalue()] * 2
    (tmp_path / "a.mjpeg").write_bytes(b"".join(parts))
    with pytest.raises(MediaError, match=r"a\.mjpeg changes from 64x48 to 64x64 at 0.08 s; convert it to one size"):
        read_video(tmp_path / "a.mjpeg")


def test_frames_are_held_once(tmp_path: Path) -> None:
    """Measured on Linux alone."""
    write_video(tmp_path / "a.mp4", np.zeros((320, 256, 256, 3), np.uint8), Fraction(25), None, 0)
    _, peak_mb = Meter(torch.device("cpu"))(lambda: read_video(tmp_path / "a.mp4"), fresh=True)
    assert peak_mb < 1.5 * 320 * 256 * 256 * 3 / 2**20


def test_a_late_track_stays_late(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=20)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for index, picture in enumerate(shades(20)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 20)
            container.mux(video.encode(frame))
        sound = av.AudioFrame.from_ndarray((tone(0.5, 16000) * 32767).astype(np.int16)[None], "s16", "mono")
        sound.sample_rate, sound.pts, sound.time_base = 16000, 4000, Fraction(1, 16000)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    samples = read_audio(path).samples[0]
    assert np.flatnonzero(np.abs(samples) > 0.1)[0] / 16000 == pytest.approx(0.25, abs=0.003)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_metadata_is_respected(tmp_path: Path, turn: int) -> None:
    picture = np.zeros((48, 96, 3), np.uint8)
    picture[:24, :48] = 250  # bright top left
    write_frames(tmp_path / "a.mp4", "libx264", [picture] * 4, [0, 1, 2, 3], Fraction(1, 10))
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[turn]
    for cell, value in enumerate((cos, sin, 0, -sin, cos, 0)):
        scale = 1 << (30 if cell % 3 == 2 else 16)
        data[matrix + 4 * cell : matrix + 4 * cell + 4] = (value * scale).to_bytes(4, "big", signed=True)
    (tmp_path / "turned.mp4").write_bytes(data)
    frame = read_video(tmp_path / "turned.mp4").frames[0]
    expected = np.rot90(picture, -turn // 90)  # tkhd's angle is clockwise
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 8


def test_reading_can_stop_early_and_shrink(synced_mp4: Path) -> None:
    clip = read_video(synced_mp4, seconds=1.0, short_side=32)
    assert clip.frames.shape == (25, 32, 48, 3)
    assert fit_video(clip, tiny_geometry(1.0))[1][-1] == "synced.mp4: 96x64 -> 64x64, cropped at the centre"
    assert read_audio(synced_mp4, seconds=1.0).samples.shape == (1, 16000)


@pytest.mark.parametrize("read", [read_video, read_audio, read_image])
def test_unreadable_files_are_named(tmp_path: Path, read) -> None:
    garbage = tmp_path / "garbage.mp4"
    garbage.write_bytes(b"this is not media" * 100)
    (tmp_path / "empty.mp4").touch()
    for path in (garbage, tmp_path / "empty.mp4", tmp_path / "missing.mp4", tmp_path):
        with pytest.raises(MediaError, match=path.name):
            read(path)


def test_missing_tracks_are_named(tmp_path: Path, synced_mp4: Path) -> None:
    write_video(tmp_path / "mute.mp4", read_video(synced_mp4).frames, Fraction(25), None, 0)
    with pytest.raises(MediaError, match=r"mute.mp4 has no audio track"):
        read_audio(tmp_path / "mute.mp4")
    write_audio(tmp_path / "a.wav", "pcm_s16le", 16000, "mono", tone(0.5, 16000))
    with pytest.raises(MediaError, match=r"a.wav has no video track"):
        read_video(tmp_path / "a.wav")
    with wave.open(str(tmp_path / "none.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    with pytest.raises(MediaError, match=r"none.wav"):
        read_audio(tmp_path / "none.wav")


def test_a_cut_off_file_is_an_error(tmp_path: Path, synced_mp4: Path) -> None:
    (tmp_path / "cut.mp4").write_bytes(synced_mp4.read_bytes()[:500])  # within the index
    with pytest.raises(MediaError, match=r"cut.mp4"):
        read_video(tmp_path / "cut.mp4")


def write_sound_at(path: Path, parts: list[tuple[float, np.ndarray]], rate: int, codec: str = "pcm_s16le") -> None:
    """Mono float [N] each, beginning at a time in seconds; cut into packets of 20 ms."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        for start_s, samples in parts:
            for place in range(0, len(samples), rate // 50):
                piece = (samples[place : place + rate // 50] * 32767).astype(np.int16)[None]
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), "s16", "mono")
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = round(start_s * rate) + place
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_gap_in_the_sound_is_silence(tmp_path: Path) -> None:
    """What follows it stays on time."""
    sound = tone(1.0, 16000)
    write_sound_at(tmp_path / "a.mkv", [(0.0, sound), (2.5, sound), (4.0, sound)], 16000)
    clip = read_audio(tmp_path / "a.mkv")
    expected = np.concatenate([sound, np.zeros(24000), sound, np.zeros(8000), sound])
    assert abs(clip.samples.shape[1] - len(expected)) <= 32
    np.testing.assert_allclose(clip.samples[0, :16000], sound, atol=1e-4)
    assert not clip.samples[0, 16032:39968].any()
    onsets = [16000 * start + np.flatnonzero(np.abs(clip.samples[0, 16000 * start :]) > 0.05)[0] for start in (1, 3)]
    onsets[1] = 56000 + np.flatnonzero(np.abs(clip.samples[0, 56000:]) > 0.05)[0]
    assert onsets == pytest.approx([40000, 64000], abs=32)
    assert clip.notes == ("a.mkv: 2 gaps in the sound filled with 2.00 s of silence",)
    assert read_audio(tmp_path / "a.mkv", seconds=1.5).samples.shape == (1, 24000)


def test_jitter_of_timestamps_is_no_gap(tmp_path: Path) -> None:
    """Matroska rounds to milliseconds: at 44100 Hz hardly a packet begins where the one before ended."""
    sound = tone(1.0, 44100)
    write_sound_at(tmp_path / "a.mkv", [(0.0, sound)], 44100)
    clip = read_audio(tmp_path / "a.mkv")
    np.testing.assert_allclose(clip.samples[0], sound, atol=1e-4)
    assert clip.notes == ()


def test_sound_that_begins_after_hours_takes_no_memory(tmp_path: Path) -> None:
    write_sound_at(tmp_path / "a.mkv", [(0.0, np.zeros(320)), (100_000.0, tone(0.5, 16000))], 16000)
    clip, peak_mb = None, 0.0

    def read() -> None:
        nonlocal clip
        clip = read_audio(tmp_path / "a.mkv", seconds=0.5)

    _, peak_mb = Meter(torch.device("cpu"))(read, fresh=True)
    assert clip.samples.shape == (1, 8000)
    assert peak_mb < 5
    with pytest.raises(MediaError, match=r"a\.mkv has more than 3600 s of sound; ask for fewer seconds"):
        read_audio(tmp_path / "a.mkv")


def test_frames_hours_apart_take_no_memory(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.mkv", "ffv1", shades(5), [0, 40, 5_000_000, 5_000_040, 10_000_000], Fraction(1, 1000))
    clip = read_video(tmp_path / "a.mkv", seconds=2.0)
    assert clip.fps == 25
    assert order(clip.frames) == [0] + [1] * 49
    with pytest.raises(MediaError, match=r"a\.mkv is longer than 3600 s; ask for fewer seconds"):
        read_video(tmp_path / "a.mkv")
    write_frames(tmp_path / "b.mkv", "ffv1", shades(4, 480, 640), [0, 40, 80, 3_000_000], Fraction(1, 1000))
    with pytest.raises(MediaError, match=r"b\.mkv takes 64\.4 GiB when read, more than 4; ask for fewer seconds"):
        read_video(tmp_path / "b.mkv")


def test_a_header_that_states_a_thousand_frames_a_second_is_not_believed(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.webm", "libvpx", shades(20), [40 * k for k in range(20)], Fraction(1, 1000))
    with av.open(str(tmp_path / "a.webm")) as container:
        assert container.streams.video[0].average_rate == 1000
    clip = read_video(tmp_path / "a.webm")
    assert clip.fps == 25
    assert order(clip.frames) == list(range(20))


def test_a_fragmented_mp4_goes_by_its_timestamps(tmp_path: Path) -> None:
    """FFmpeg divides by a length that has the last fragment's rounding in it."""
    path = tmp_path / "a.mp4"
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream("libx264", rate=30, options={"g": "10"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(61):
            frame = av.VideoFrame.from_ndarray(shades(20)[index % 20], "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    clip = read_video(path)
    assert clip.fps == 30
    assert len(clip.frames) == 61


def test_own_frames_are_the_files_own(tmp_path: Path) -> None:
    pictures = [np.random.default_rng(k).integers(0, 255, (48, 64, 3), np.uint8) for k in range(4)]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for time, picture in zip((0, 1, 4, 5), pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = read_video(tmp_path / "a.mkv", short_side=16)
    assert clip.frames.shape[1:3] == (16, 21)
    own = list(own_frames(clip))
    assert len(own) == len(clip.frames) == 6
    for frame, index in zip(own, (0, 1, 1, 1, 2, 3), strict=True):
        np.testing.assert_array_equal(frame, pictures[index])


@pytest.mark.parametrize(("late_ms", "moved_ms"), [(10, 10), (30, 30 - 50), (60, 10)])
def test_a_track_that_begins_off_its_grid_takes_the_sound_along(tmp_path: Path, late_ms: int, moved_ms: int) -> None:
    """Frames 50 ms apart, the first some milliseconds late; each has a click at its time."""
    pictures = shades(20)
    times = [late_ms + 50 * k for k in range(20)]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video = container.add_stream("ffv1", rate=20)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        sound = np.zeros((1, 16000), np.int16)
        sound[0, [16 * time for time in times if time < 1000]] = 20000
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(video.encode(frame))
        frame = av.AudioFrame.from_ndarray(sound, "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(audio.encode(frame))
    clip, heard = read_video(tmp_path / "a.mkv"), read_audio(tmp_path / "a.mkv")
    assert (clip.fps, clip.late_s) == (20, Fraction(moved_ms, 1000))
    clicks = np.flatnonzero(on_frames(clip, heard.samples, 16000)[0] > 0.3) / 16000 * 20
    np.testing.assert_allclose(clicks, clicks.round(), atol=1e-6)
    shown = order(clip.frames)
    assert [shown[round(click)] for click in clicks[:10]] == list(range(10))


def test_a_header_of_giants_is_refused(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.mkv", "ffv1", shades(2, 2, 20000), [0, 1], Fraction(1, 10))
    with pytest.raises(MediaError, match=r"a\.mkv is 20000x2; films are read up to 16384 pixels a side"):
        read_video(tmp_path / "a.mkv")
