"""A part of a file is what stands there in the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harmony_core.media import MediaError, read_audio, read_video, write_video


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds, so that it is sought in, with a new picture every frame, and a pitch that rises.

    AAC keeps noise as no more than its loudness and makes other noise at every reading.
    """
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 255, (250, 4, 4, 3)), 16, axis=1).repeat(16, axis=2).astype(np.uint8)
    time_s = np.arange(480_000) / 48_000
    samples = np.tile(0.3 * np.sin(2 * np.pi * (200 + 100 * time_s) * time_s), (2, 1)).astype(np.float32)
    path = tmp_path_factory.mktemp("media") / "film.mp4"
    write_video(path, frames, 25, samples, 48_000)
    return path


@pytest.mark.parametrize("start", [0.04, 1.0, 4.36, 9.0])
def test_a_part_begins_where_it_is_asked_to(film: Path, start: float) -> None:
    whole, part = read_video(film), read_video(film, start=start, seconds=0.8)
    first = round(start * 25)
    assert np.array_equal(part.frames, whole.frames[first : first + 20])
    assert part.late_s == 0
    sound, heard = read_audio(film), read_audio(film, start=start, seconds=0.8)
    expected = sound.samples[:, round(start * 48_000) :][:, : round(0.8 * 48_000)]
    assert heard.samples.shape == expected.shape
    assert np.abs(heard.samples - expected).max() < 1e-4


def test_between_two_frames_the_nearest_is_first(film: Path) -> None:
    whole, part = read_video(film), read_video(film, start=5.03, seconds=0.4)
    assert np.array_equal(part.frames[0], whole.frames[126])
    assert part.late_s != 0


def test_a_part_beyond_the_end_is_an_error(film: Path) -> None:
    with pytest.raises(MediaError, match="without a single frame after 20 s"):
        read_video(film, start=20)
    with pytest.raises(MediaError, match="without a single sample after 20 s"):
        read_audio(film, start=20)
