"""Any folder of clips, scored: a row a clip."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..media import MediaError, has_audio, on_frames, read_audio, read_video, to_mono
from ..outputs import whole_file
from ..pipelines.record import read_record
from .scorers import FilmClip, Measure, NotMeasuredError, Scorer

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
SHORT_SIDE = 216  # of the frames that are kept: more than is measured, enough for a thumbnail
FACTS = ("file", "prompt", "transcript", "seconds", "fps", "width", "height")


@dataclass
class ScoredClip:
    """One row. `values` holds only what was measured; `notes` says why the rest was not. `poster` is a JPEG."""

    path: Path
    texts: dict[str, str]
    facts: dict[str, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    poster: bytes = b""


def score_folder(
    folder: Path,
    scorers: Sequence[Scorer],
    prompts: Path | None = None,
    seconds: float = 60.0,
    progress: Callable[[Path], object] = lambda _: None,
) -> list[ScoredClip]:
    """Every film of a folder by every scorer, in the order of names; a file that cannot be read is a row that says so.

    Args:
        prompts: JSON lines as `harmony generate --prompts` reads them, of the clips' texts; see `texts_of`.
        seconds: how much of a clip is read. Scorers that read the file themselves take all of it.

    Raises:
        ValueError: no film in the folder, or a prompts file that is none.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise ValueError(f"{folder} has no film ({' '.join(SUFFIXES)}); give a folder of clips.")
    listed = {} if prompts is None else _listed(prompts)
    rows = []
    for path in paths:
        row = ScoredClip(path, texts_of(path, listed))
        try:
            clip = _read(row, seconds)
        except MediaError as error:
            row.notes.append(str(error))
        else:
            _score(row, clip, scorers)
        rows.append(row)
        progress(path)
    return rows


def texts_of(path: Path, listed: dict[str, dict[str, str]]) -> dict[str, str]:
    """`prompt` and `transcript` of a clip: of its line in a prompts file, else of NAME.txt beside it (the prompt, and
    after a line `transcript:` the transcript), else of the request that a clip of `harmony generate` keeps."""
    beside = path.with_suffix(".txt")
    if path.name in listed:
        found = listed[path.name]
    elif beside.is_file():
        prompt, _, transcript = beside.read_text(encoding="utf-8-sig").partition("transcript:")
        found = {"prompt": prompt, "transcript": transcript}
    else:
        try:
            found = read_record(path) or {}
        except MediaError:
            found = {}
    return {name: str(found.get(name) or "").strip() for name in ("prompt", "transcript")}


def _listed(prompts: Path) -> dict[str, dict[str, str]]:
    """File name -> line: its `output`, else what `harmony generate --prompts` calls it."""
    lines = {}
    for number, text in enumerate(prompts.read_text(encoding="utf-8-sig").split("\n"), 1):
        if text.strip() and not text.lstrip().startswith("#"):
            try:
                line = json.loads(text)
                lines[line.get("output") or f"{number:05d}.mp4"] = line
            except (ValueError, AttributeError) as error:
                raise ValueError(f"{prompts} line {number} is no JSON object: {text[:80]}") from error
    return lines


def _read(row: ScoredClip, seconds: float) -> FilmClip:
    """Fills in the row's facts and poster. Raises MediaError."""
    video = read_video(row.path, seconds=seconds, short_side=SHORT_SIDE)
    width, height = video.size or (video.frames.shape[2], video.frames.shape[1])
    row.facts = {
        "seconds": round(float(video.duration_s), 3),
        "fps": round(float(video.fps), 3),
        "width": width,
        "height": height,
    }
    row.poster = _jpeg(video.frames[len(video.frames) // 2])
    samples_N, sample_rate = None, 0
    if has_audio(row.path):
        audio = read_audio(row.path, seconds=seconds)
        mono_N, _ = to_mono(audio)
        samples_N, sample_rate = on_frames(video, mono_N[None], audio.sample_rate)[0], audio.sample_rate
    return FilmClip(row.path, video.frames, video.fps, samples_N, sample_rate, **row.texts)


def _jpeg(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=85)
    return file.getvalue()


def _score(row: ScoredClip, clip: FilmClip, scorers: Sequence[Scorer]) -> None:
    for scorer in scorers:
        try:
            row.values |= scorer(clip)
        except NotMeasuredError as reason:
            row.notes.append(f"{scorer.title}: {reason}")


def measures_of(scorers: Sequence[Scorer]) -> list[Measure]:
    """The columns of several scorers."""
    return [measure for scorer in scorers for measure in scorer.measures]


def write_table(path: Path, rows: Sequence[ScoredClip], scorers: Sequence[Scorer], missing: dict[str, str]) -> None:
    """One CSV. A cell without a number is empty, `notes` says why, and `missing` names the scorers that did not run."""
    columns = [*FACTS, *(measure.name for measure in measures_of(scorers)), "notes", "missing"]
    absent = "; ".join(f"{title}: {reason}" for title, reason in missing.items())
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        for row in rows:
            values = {name: round(value, 4) for name, value in row.values.items()}
            cells = {"file": row.path.name, **row.texts, **row.facts, **values}
            writer.writerow(cells | {"notes": "; ".join(row.notes), "missing": absent})
