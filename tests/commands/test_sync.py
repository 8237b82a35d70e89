"""`harmony sync`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from harmony_core.media import write_video
from tests.commands.errors import assert_error


def test_sync_finds_the_lag_of_a_file(harmony, flashes_and_clicks, tmp_path: Path) -> None:
    write_video(tmp_path / "late.mp4", *flashes_and_clicks(0.08))
    code, printed, err = harmony("sync", tmp_path / "late.mp4", "--json", "--plot", tmp_path / "late.png")
    assert code == 0, err
    facts = json.loads(printed)
    assert facts["lag_ms"] == pytest.approx(80, abs=15)
    assert facts["range_ms"] == [-500, 500]
    assert facts["lag_confidence"] > 0.5
    assert facts["av_align"] is not None
    assert len(facts["video_events"]) == len(facts["audio_events"]) == 5
    assert Image.open(tmp_path / "late.png").width > 1000
    code, printed, _ = harmony("sync", tmp_path / "late.mp4")
    assert code == 0
    assert "ms late" in printed
    assert "within 500 ms" in printed
    code, printed, _ = harmony("sync", tmp_path / "late.mp4", "--json", "--max-lag", 200)
    assert json.loads(printed)["range_ms"] == [-200, 200]


def test_sync_of_what_has_no_answer(harmony, flashes_and_clicks, tmp_path: Path) -> None:
    frames, fps, samples, rate = flashes_and_clicks(0)
    write_video(tmp_path / "one.mp4", frames[:1], fps, samples[:, : rate // 25], rate)
    code, printed, _ = harmony("sync", tmp_path / "one.mp4")
    assert code == 0
    assert "1 frames; at least 8" in printed
    write_video(tmp_path / "mute.mp4", frames, fps, None, 0)
    assert_error(harmony("sync", tmp_path / "mute.mp4"), "mute.mp4 has no audio track")
    assert_error(harmony("sync", tmp_path / "nothing.mp4"), "nothing.mp4 is missing")
    assert_error(harmony("sync", tmp_path / "mute.mp4", "--seconds", "0"), "--seconds")
    assert_error(harmony("sync", tmp_path / "mute.mp4", "--max-lag", "0.5"), "--max-lag is 0.5", "milliseconds")
    assert_error(harmony("sync", tmp_path / "nothing.mp4", "--plot", "x.txt"), "--plot x.txt must end in .png")
