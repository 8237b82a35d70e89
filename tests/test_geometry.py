"""Lengths and windows, against numbers worked out by hand and a brute-force oracle."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from harmony_core.geometry import (
    ClipGeometry,
    a2v_windows,
    as_fps,
    as_fraction,
    audio_centre,
    beyond_training,
    clip_fps,
    group_windows,
    latent_frame_span,
    num_audio_latents,
    size_of_picture,
    v2a_windows,
)
from harmony_core.presets import PRESETS, preset
from tests.checkpoints.uniavgen_cases import FIXTURES

TINY, BIG, OVI = preset("harmony-tiny"), preset("harmony-5b"), preset("ovi-11b")


def tiny(seconds: float) -> ClipGeometry:
    return ClipGeometry.from_seconds(seconds, TINY.fps, 64, 64, TINY)


def test_fractions_are_the_decimals_that_people_write() -> None:
    assert as_fraction(12.5) == Fraction(25, 2)
    assert as_fraction(0.1) == Fraction(1, 10)
    assert as_fraction("30000/1001") == Fraction(30000, 1001)


def test_rates_of_ntsc_are_what_they_round() -> None:
    for written in (23.976, "23.976", "23.98", Fraction("23.976"), "24000/1001", 23.976023976):
        assert as_fps(written) == Fraction(24000, 1001)
    assert [as_fps(rate) for rate in ("29.97", "59.94", 119.88)] == [Fraction(n * 30000, 1001) for n in (1, 2, 4)]
    assert [as_fps(rate) for rate in (24, "25", 12.5, "29.9", "23.97")] == [
        24,
        25,
        Fraction(25, 2),
        Fraction(299, 10),
        Fraction(2397, 100),
    ]


@pytest.mark.parametrize(
    ("seconds", "frames"),
    [(0.04, 1), (0.12, 2), (0.2, 3), (0.28, 4), (0.36, 5), (1.0, 13), (3.0, 38), (5.0, 63), (0.5, 6), (3.3, 41)],
)
def test_ties_go_up_and_every_difference_is_said(seconds: float, frames: int) -> None:
    geometry = tiny(seconds)
    assert geometry.num_frames_asked == frames
    said = f"{seconds:g} s at 12.5 fps is {frames / 12.5:g} s: {frames} whole frames."
    assert geometry.snapped[0] == said
    assert said not in ClipGeometry.from_frames(frames, "12.5", 64, 64, TINY).snapped


def test_what_was_not_trained_is_said() -> None:
    def said(config, seconds: str, fps: str, height: int, width: int) -> list[str]:
        geometry = ClipGeometry.from_seconds(as_fraction(seconds), fps, height, width, config)
        return [note.split(" is not ")[0] for note in beyond_training(geometry, config)]

    assert said(TINY, "2", "12.5", 64, 64) == []
    assert said(TINY, "2", "24", 64, 64) == ["24 fps"]
    assert said(TINY, "2", "12.5", 128, 128) == ["128x128"]
    assert said(TINY, "2", "12.5", 32, 128) == ["128x32"], "of the same area"
    assert said(TINY, "0.8", "12.5", 64, 64) == ["0.8 s"]
    assert said(TINY, "4", "12.5", 64, 64) == ["4 s"]
    assert said(BIG, "121/24", "23.976", 1280, 704) == [], "upright, and close to the rate"
    assert said(OVI, "241/24", "24", 512, 992) == [], "a length and a shape of its own"


def test_two_seconds_of_the_embedded_checkpoint() -> None:
    geometry = tiny(2.0)
    assert (geometry.num_frames_asked, geometry.num_frames, geometry.num_latent_frames) == (25, 25, 7)
    assert (geometry.num_audio_latents, geometry.num_samples, geometry.duration_s) == (50, 32000, 2.0)
    assert geometry.video_shape(2, 24) == (2, 24, 7, 8, 8)
    assert geometry.audio_shape(2, 20) == (2, 20, 50)
    assert geometry.snapped == ()


@pytest.mark.parametrize(("config", "num_audio"), [(BIG, 158), (OVI, 157)])
def test_five_seconds_at_24_fps(config, num_audio: int) -> None:
    geometry = ClipGeometry.from_frames(121, 24, 704, 1280, config)
    assert geometry.num_latent_frames == 31
    assert geometry.num_audio_latents == num_audio  # 121 / 24 * 31.25 = 157.55; Ovi's own table rounds down
    assert (geometry.latent_height, geometry.latent_width) == (44, 80)
    assert geometry.num_samples == round(121 / 24 * 16000)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_make_its_own_clip(name: str) -> None:
    config = preset(name)
    geometry = ClipGeometry.from_seconds(as_fraction(config.seconds), config.fps, config.height, config.width, config)
    assert geometry.num_frames == geometry.num_frames_asked


def test_ovi_table_holds_at_its_own_fps_only() -> None:
    assert num_audio_latents(61, Fraction(24), OVI) == 314
    assert num_audio_latents(31, Fraction(25), OVI) == 152  # ceil(121 / 25 * 31.25 = 151.25)


@pytest.mark.parametrize(("seconds", "asked", "generated"), [(0.08, 1, 1), (0.16, 2, 5), (2.0, 25, 25), (2.1, 26, 29)])
def test_frames_snap_up_to_what_the_autoencoder_takes(seconds: float, asked: int, generated: int) -> None:
    geometry = tiny(seconds)
    assert (geometry.num_frames_asked, geometry.num_frames) == (asked, generated)
    assert (geometry.snapped != ()) == (asked != generated)
    assert geometry.num_samples == asked * 1280
    num_generated_samples = geometry.num_frames / geometry.fps * geometry.sample_rate
    assert num_generated_samples == generated * 1280
    assert geometry.num_audio_latents * Fraction(1, 25) * 16000 >= num_generated_samples


def test_errors_name_the_value_and_the_fix() -> None:
    with pytest.raises(ValueError, match=r"0\.01 s at 12\.5 fps.*at least 0\.08 s"):
        tiny(0.01)
    with pytest.raises(ValueError, match=r"70x64 must be multiples of 16.*64x64"):
        ClipGeometry.from_seconds(2, 12.5, 64, 70, TINY)
    with pytest.raises(ValueError, match=r"fps is 0.*12\.5"):
        ClipGeometry.from_seconds(2, 0, 64, 64, TINY)
    with pytest.raises(ValueError, match="fps is -5"):
        ClipGeometry.from_frames(25, -5, 64, 64, TINY)
    with pytest.raises(ValueError, match="0 frames"):
        ClipGeometry.from_frames(0, 12.5, 64, 64, TINY)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not a number of seconds"):
            tiny(bad)


def test_fps_is_implied_by_the_latent_lengths() -> None:
    assert clip_fps(7, 50, TINY) == Fraction(25, 2)
    assert clip_fps(31, 157, OVI) == 24
    # 25 frames over 25 latents of 40 ms are one second.
    assert clip_fps(7, 25, TINY) == 25


def test_latents_span_the_frames_they_hold() -> None:
    assert latent_frame_span(0, Fraction(10), 4) == (0, Fraction(1, 10))
    assert latent_frame_span(1, Fraction(10), 4) == (Fraction(1, 10), Fraction(5, 10))
    assert latent_frame_span(6, Fraction(25, 2), 4)[1] == 2


CLIPS = [(TINY, 1), (TINY, 2), (TINY, 7), (TINY, 13), (BIG, 1), (BIG, 31), (OVI, 31), (BIG.with_(a2v_window=0), 9)]


@pytest.mark.parametrize(("config", "num_latent_frames"), CLIPS)
def test_windows_against_brute_force(config, num_latent_frames: int) -> None:
    fps = as_fraction(config.fps)
    num_audio = num_audio_latents(num_latent_frames, fps, config)
    spans = [latent_frame_span(i, fps, config.temporal_stride) for i in range(num_latent_frames)]
    centres = [audio_centre(j, config) for j in range(num_audio)]

    hears = a2v_windows(num_latent_frames, num_audio, config)
    for i, (first, last) in enumerate(hears):
        start = spans[max(i - config.a2v_window, 0)][0]
        end = spans[min(i + config.a2v_window, num_latent_frames - 1)][1]
        assert set(range(first, last)) == {j for j, centre in enumerate(centres) if start <= centre < end}

    sees = v2a_windows(num_latent_frames, num_audio, config)
    for j, (first, last) in enumerate(sees):
        # A centre past the last frame (T_a is rounded up) belongs to the last latent.
        own = next((i for i, (start, end) in enumerate(spans) if start <= centres[j] < end), num_latent_frames - 1)
        reach = config.v2a_window
        assert (first, last) == (max(own - reach, 0), min(own + reach, num_latent_frames - 1) + 1)


@pytest.mark.parametrize("num_audio", [1, 2, 3, 50, 51, 400])
@pytest.mark.parametrize("num_latent_frames", [1, 2, 7, 31])
def test_windows_are_never_empty_and_never_go_back(num_latent_frames: int, num_audio: int) -> None:
    for windows, keys, queries in (
        (a2v_windows(num_latent_frames, num_audio, TINY), num_audio, num_latent_frames),
        (v2a_windows(num_latent_frames, num_audio, TINY), num_latent_frames, num_audio),
    ):
        assert len(windows) == queries
        assert all(0 <= first < last <= keys for first, last in windows)
        assert list(windows) == sorted(windows)
        assert [last for _, last in windows] == sorted(last for _, last in windows)


def test_every_audio_latent_is_heard_by_some_frame() -> None:
    heard = {j for first, last in a2v_windows(7, 50, TINY) for j in range(first, last)}
    assert heard == set(range(50))


def test_groups_cover_the_queries_in_order() -> None:
    windows = v2a_windows(7, 50, TINY)
    groups = group_windows(windows)
    assert [window for start, end, first, last in groups for window in [(first, last)] * (end - start)] == list(windows)
    assert len({group[2:] for group in groups}) == len(groups)
    assert group_windows(((0, 2), (0, 2), (1, 3))) == ((0, 2, 0, 2), (2, 3, 1, 3))


@pytest.mark.parametrize("row", json.loads((FIXTURES / "sizes.json").read_text()), ids=str)
def test_a_clip_takes_the_shape_of_its_picture(row: list[int]) -> None:
    height, width, *wanted = row
    assert list(size_of_picture(height, width, preset("uniavgen"))) == wanted


def test_sizes_of_pictures_have_no_noise() -> None:
    """As floats, 93 of these come out a tile too large."""
    config = preset("uniavgen")
    assert all(size_of_picture(side, side, config) == (736, 736) for side in range(64, 2200))


def test_every_shape_of_picture_was_trained() -> None:
    config = preset("uniavgen")
    wide, tall, small = (
        ClipGeometry.from_seconds(config.seconds, config.fps, *size, config)
        for size in ((736, 1280), (992, 736), (480, 832))
    )
    assert beyond_training(wide, config) == beyond_training(tall, config) == ()
    assert "832x480 is not a size" in beyond_training(small, config)[0]
