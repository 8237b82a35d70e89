"""Reading any media file, fitting it to a clip, and writing MP4s."""

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

from harmony_core.config import preset
from harmony_core.evaluation.bench import Meter
from harmony_core.geometry import ClipGeometry
from harmony_core.media import (
    AudioClip,
    MediaError,
    VideoClip,
    check_size,
    fit_audio,
    fit_image,
    fit_video,
    has_audio,
    read_audio,
    read_image,
    read_video,
    resample,
    write_video,
)
from harmony_core.outputs import OutputError, prepare_output

RED, BLUE = (200, 60, 10), (20, 60, 210)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def write_audio(path: Path, codec: str, rate: int, layout: str, samples: np.ndarray) -> None:
    """Encode float [N] to every channel of `layout`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        channels = np.repeat(samples[None], stream.layout.nb_channels, axis=0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        converter = av.AudioResampler(stream.format, stream.layout, rate)
        for part in (frame, None):
            for out in converter.resample(part):
                container.mux(stream.encode(out))
        container.mux(stream.encode(None))


def write_frames(path: Path, codec: str, pictures: list[np.ndarray], pts: list[int], time_base: Fraction) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=round(1 / time_base))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        for picture, time in zip(pictures, pts, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def shades(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Pictures whose brightness tells their index: 10, 20, 30, ..."""
    return [np.full((height, width, 3), 10 * (i + 1), np.uint8) for i in range(count)]


def order(frames: np.ndarray) -> list[int]:
    return [round(frame.mean() / 10) - 1 for frame in frames]


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


def test_image_is_turned_as_exif_says(tmp_path: Path) -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:10, :10] = 255
    image = Image.fromarray(picture)
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn clockwise
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(picture, -1))


def tiny_geometry(seconds: float) -> ClipGeometry:
    return ClipGeometry.from_seconds(seconds, "12.5", 64, 64, preset("harmony-tiny"))


def test_fit_video_resamples_crops_and_holds_the_last_frame() -> None:
    clip = VideoClip(np.stack(shades(20, 90, 160)), Fraction(25), "a.mp4")
    frames, notes = fit_video(clip, tiny_geometry(2.0))
    assert frames.shape == (25, 64, 64, 3)
    assert order(frames) == [min(2 * k, 19) for k in range(25)]
    said = " | ".join(notes)
    for part in (
        "a.mp4: 25 fps -> 12.5 fps",
        "0.80 s continued with its last frame to 2.00 s",
        "160x90 -> 64x64, cropped",
    ):
        assert part in said


def test_fit_video_leaves_a_fitting_clip_alone() -> None:
    clip = VideoClip(np.random.default_rng(0).integers(0, 255, (25, 64, 64, 3), np.uint8), Fraction(25, 2))
    frames, notes = fit_video(clip, tiny_geometry(2.0))
    np.testing.assert_array_equal(frames, clip.frames)
    assert notes == ()


def test_fit_video_of_one_frame_is_a_still() -> None:
    frames, _ = fit_video(VideoClip(np.stack(shades(1)), Fraction(1)), tiny_geometry(1.0))
    assert frames.shape == (13, 64, 64, 3)
    assert len(np.unique(frames)) == 1


def test_fit_image_covers_and_crops_the_centre() -> None:
    picture = np.zeros((40, 120, 3), np.uint8)
    picture[:, 40:80] = 200
    fitted, notes = fit_image(picture, 64, 64, "a.png")
    assert fitted.shape == (64, 64, 3)
    assert fitted[:, 2:-2].min() > 190
    assert notes == ("a.png: 120x40 -> 64x64, cropped at the centre",)
    assert fit_image(fitted, 64, 64)[1] == ()


def test_fit_audio_mixes_resamples_pads_and_cuts() -> None:
    stereo = AudioClip(np.stack([tone(3.2, 44100), 0 * tone(3.2, 44100)]), 44100, "voice.mp3")
    samples, notes = fit_audio(stereo, 32000, 16000)
    assert samples.shape == (32000,)
    np.testing.assert_allclose(samples[2000:-2000], 0.5 * tone(2.0, 16000)[2000:-2000], atol=2e-3)
    assert notes == ("voice.mp3: 44100 Hz stereo -> 16000 Hz mono", "voice.mp3: 3.20 s cut to 2.00 s")
    samples, notes = fit_audio(AudioClip(tone(1.0, 16000)[None], 16000, "b.wav"), 32000, 16000)
    np.testing.assert_array_equal(samples[16000:], 0)
    assert notes == ("b.wav: 1.00 s continued with silence to 2.00 s",)


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (8000, 16000), (22254, 16000), (47999, 16000)])
def test_resampling_is_exact_in_time_and_level(source: int, target: int) -> None:
    window = np.hanning(source).astype(np.float32)
    resampled = resample(tone(1.0, source) * window, source, target)
    expected = tone(1.0, target) * np.interp(np.arange(target) / target, np.arange(source) / source, window)
    np.testing.assert_allclose(resampled, expected, atol=1e-3)


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


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"Cannot write .*choose another output"):
        prepare_output(tmp_path / "file" / "a.mp4")
    with pytest.raises(OutputError, match=r"Cannot write"):
        prepare_output(tmp_path)
    assert prepare_output(tmp_path / "new" / "a.mp4").parent.is_dir()
    assert not (tmp_path / "new" / "a.mp4").exists()
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    with pytest.raises(MediaError, match=r"\.mp4"):
        write_video(tmp_path / "a.webm", frames, Fraction(10), None, 0)
    with pytest.raises(MediaError, match="even"):
        write_video(tmp_path / "a.mp4", frames[:, :15], Fraction(10), None, 0)
    with pytest.raises(MediaError, match="frame"):
        write_video(tmp_path / "a.mp4", frames[:0], Fraction(10), None, 0)
    assert not list(tmp_path.glob("a.mp4*"))


def test_a_failed_write_leaves_the_old_clip(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"the old clip")
    with pytest.raises(ValueError, match="equal `2` but got `3`"):
        write_video(tmp_path / "a.mp4", np.zeros((3, 16, 16, 3), np.uint8), Fraction(10), np.zeros((3, 4800)), 16000)
    assert (tmp_path / "a.mp4").read_bytes() == b"the old clip"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_sizes_that_h264_does_not_take() -> None:
    check_size(8192, 16)
    with pytest.raises(MediaError, match=r"16x8194 is too large, H\.264 goes to 8192; take a smaller scale"):
        check_size(16, 8194)
    with pytest.raises(MediaError, match="even sizes, not 16x17"):
        check_size(16, 17)
