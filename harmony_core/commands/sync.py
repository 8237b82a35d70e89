"""`harmony sync`: how far sound and picture of a file are apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..sync import MAX_LAG_S
from .clips import measure_clip
from .options import AudioTrack, Json, Overwrite, check_seconds, check_suffix, say

PREVIEW_SIDE = 72  # frames of a measured file, more than is measured and enough for the film strip
LAG_RANGE_MS = 50, 10_000  # of --max-lag


def sync(
    file: Annotated[Path, typer.Argument(help="Any video file with sound.")],
    seconds: Annotated[float, typer.Option(help="How much of the file is measured.")] = 60.0,
    max_lag: Annotated[float, typer.Option(help="Milliseconds either way within which a lag is sought.")] = 1000
    * MAX_LAG_S,
    plot: Annotated[Path | None, typer.Option(help="PNG to write.")] = None,
    audio_track: AudioTrack = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure how far sound and picture of a file are apart."""
    from ..media import on_frames, read_audio, read_video, to_mono
    from ..outputs import check_overwrites, prepare_output
    from ..sync.plot import describe

    check_seconds("--seconds", seconds)
    if not LAG_RANGE_MS[0] <= max_lag <= LAG_RANGE_MS[1]:
        low, high = LAG_RANGE_MS
        raise ValueError(f"--max-lag is {max_lag:g}, but must be {low} to {high} milliseconds.")
    check_suffix("--plot", plot, ".png")
    check_overwrites({"--plot": plot}, [file], overwrite)
    if plot is not None:
        prepare_output(plot)
    audio = read_audio(file, seconds=seconds, track=audio_track)
    video = read_video(file, seconds=seconds, short_side=PREVIEW_SIDE)
    mono_N, mixed = to_mono(audio)
    samples_CN = on_frames(video, mono_N[None], audio.sample_rate)
    report = measure_clip(video.frames, video.fps, samples_CN, audio.sample_rate, plot, file.name, max_lag / 1000)
    notes = [*video.notes, *audio.notes, *mixed]
    if as_json:
        print(json.dumps({"file": str(file), **report.to_dict(), "notes": notes}))
        return
    for note in notes:
        say(f"note: {note}")
    print(describe(report))
    print(f"{len(report.video_events)} events in the picture at {_times(report.video_events)}")
    print(f"{len(report.audio_events)} onsets in the sound at {_times(report.audio_events)}")


def _times(events: tuple[float, ...]) -> str:
    shown = ", ".join(f"{seconds:.2f}" for seconds in events[:20])
    return f"{shown}{', ...' if len(events) > 20 else ''} s" if events else "no time"
