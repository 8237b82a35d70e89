"""Rows of a data set, from JSON lines, CSV, or a folder of files with texts beside them. A wrong row costs itself.

In a folder `NAME.txt` is the prompt of `NAME.mp4`, of `NAME.wav`, or of both together; `NAME.audio.txt` and
`NAME.transcript.txt` are what is heard and what is said. What has no `NAME.txt` beside it is rejected.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from ...pipelines.prompts import parse_line, read_lines, read_text
from ...quoting import quoted, shortened
from ...strict import build

LONGEST_ID = 200  # characters
LONGEST_REASON = 300
LONGEST_RECORDING_S = 10**6
MEDIA = ("video", "audio", "reference")
SOUNDS = frozenset([".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".aif", ".wma"])
TEXTS = {"prompt": ".txt", "audio_prompt": ".audio.txt", "transcript": ".transcript.txt"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A clip: files (beside the manifest, or absolute), what is seen, heard and said in it, and whose it is.

    Without `audio` the sound is the video's own. `speaker` names a voice and `recording` what clips were cut from, by
    default the file. Only `start` to `end`, in seconds, is taken. `reference` is another sound of the voice, and
    `reference_transcript` what is said in it, for a model that reads it.

    Raises:
        ValueError: no file, no text, an id that cannot name a tensor, a span that is none.
    """

    id: str
    video: str | None = None
    audio: str | None = None
    prompt: str = ""
    audio_prompt: str = ""
    transcript: str = ""
    language: str = ""
    speaker: str = ""
    recording: str = ""
    start: float = 0.0
    end: float | None = None
    reference: str | None = None
    reference_transcript: str = ""

    def __post_init__(self) -> None:
        if not 0 < len(self.id) <= LONGEST_ID or not self.id.isprintable():
            raise ValueError(f"id is {quoted(self.id)}, but must be 1 to {LONGEST_ID} printable characters.")
        if not self.video and not self.audio:
            raise ValueError("neither video nor audio names a file.")
        if not (self.prompt or self.audio_prompt or self.transcript).strip():
            raise ValueError(
                "prompt, audio_prompt and transcript are all empty, so that nothing can be learnt from it."
            )
        end = float("inf") if self.end is None else self.end
        if not 0 <= self.start < min(end, LONGEST_RECORDING_S):
            raise ValueError(f"it goes from {self.start:g} s to {end:g} s; start must be 0 or more and before end.")

    @cached_property
    def digest(self) -> str:
        """What the row and its files are when it is first asked for, as far as names, sizes and times of change tell;
        not where they lie. Raises OSError for a file that is gone."""
        values = asdict(self)
        for name in MEDIA:
            if (path := getattr(self, name)) is not None:
                facts = Path(path).stat()
                values[name] = [Path(path).name, facts.st_size, facts.st_mtime_ns]
        said = json.dumps(values, sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def cut_from(self) -> str:
        """The recording, else the file: the same one however its path is written, and no path of the machine."""
        if self.recording:
            return self.recording
        file = self.video or self.audio
        assert file is not None
        path = Path(file).resolve()
        return f"{path.name} {hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used. `row` is its line, or place in a folder, from 1; `id` is "" where it has none."""

    row: int
    id: str
    reason: str

    @classmethod
    def of(cls, row: int, id: str, error: Exception) -> Rejected:
        return cls(row, shortened(id, LONGEST_ID), shortened(str(error), LONGEST_REASON))


def read_rows(source: Path) -> Iterator[tuple[int, Row | Rejected]]:
    """Every row of a manifest or folder by its number, and why it cannot be used where that shows already.

    A row is what its files are now, whatever becomes of them while others are encoded.

    Raises:
        ValueError: no such file or folder, none of these kinds, not UTF-8, nothing in it, or an unknown column.
    """
    owners: dict[str, int] = {}
    for number, values in _read_values(source):
        if isinstance(values, ValueError):
            yield number, Rejected.of(number, "", values)
            continue
        try:
            row = _row(values, source.parent)
            if row.id in owners:
                raise ValueError(f"row {owners[row.id]} has the same id; give each its own.")
            _ = row.digest  # kept from here on
        except (ValueError, OSError) as error:
            yield number, Rejected.of(number, str(values.get("id", "")), error)
            continue
        owners[row.id] = number
        yield number, row


def _read_values(source: Path) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    if source.is_dir():
        yield from enumerate(_folder_values(source), 1)
    elif source.suffix.lower() == ".csv":
        yield from _csv_values(source)
    elif source.suffix.lower() in (".jsonl", ".json", ".ndjson"):
        for number, text in read_lines(source, "The manifest"):
            try:
                values = {"id": f"{number:08d}", **parse_line(text)}
            except ValueError as error:
                yield number, error
            else:
                yield number, {name: value for name, value in values.items() if value is not None}
    else:
        raise ValueError(f"{source} is neither a folder nor a manifest; give a folder, or a file .jsonl or .csv.")


def _csv_values(source: Path) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    """Empty cells are left out. Raises ValueError for a header with an unknown column."""
    table = csv.reader(io.StringIO(read_text(source, "The manifest"), newline=""), strict=True)
    header = [name.strip() for name in next(table, [])]
    known = [item.name for item in fields(Row)]
    if unknown := [name for name in header if name not in known]:
        raise ValueError(f"{source} has columns {quoted(unknown)}; known are {', '.join(known)}.")
    number = 1
    while True:
        number += 1
        try:
            cells = next(table, None)
        except csv.Error as error:
            yield number, ValueError(f"not CSV: {error}.")
            continue
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(header):
            yield number, ValueError(f"{len(cells)} cells under {len(header)} columns; quote texts with commas.")
            continue
        yield number, {"id": f"{number:08d}"} | {name: cell for name, cell in zip(header, cells, strict=True) if cell}


def _folder_values(folder: Path) -> Iterator[dict[str, Any] | ValueError]:
    groups: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and path.suffix != ".txt" and not any(part.startswith(".") for part in relative.parts):
            groups.setdefault(path.with_suffix(""), []).append(path)
    if not groups:
        raise ValueError(f"{folder} holds no media; put films or sounds there, with a .txt beside each.")
    for stem, paths in groups.items():
        values: dict[str, Any] = {"id": stem.relative_to(folder).as_posix()}
        texts = {name: stem.with_name(stem.name + suffix) for name, suffix in TEXTS.items()}
        if not texts["prompt"].is_file():
            yield ValueError(f"{paths[0].name} has no {texts['prompt'].name} beside it.")
            continue
        sounds = [path for path in paths if path.suffix.lower() in SOUNDS]
        films = [path for path in paths if path not in sounds]
        if len(sounds) > 1 or len(films) > 1:
            yield ValueError(f"{_names(paths)} share {texts['prompt'].name}; rename what is another clip.")
            continue
        values |= {"video": str(films[0].relative_to(folder.parent))} if films else {}
        values |= {"audio": str(sounds[0].relative_to(folder.parent))} if sounds else {}
        try:
            values |= {name: path.read_text("utf-8-sig").strip() for name, path in texts.items() if path.is_file()}
        except UnicodeDecodeError as error:
            yield ValueError(f"a text beside {paths[0].name} is not UTF-8 at byte {error.start}; save it as UTF-8.")
            continue
        yield values


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _row(values: dict[str, Any], folder: Path) -> Row:
    """Raises ValueError for unknown fields, values of another type, or as `Row`, and for a file that is not there."""
    values = dict(values)
    for name in MEDIA:
        if values.get(name) == "":
            del values[name]
        elif isinstance(values.get(name), str):
            values[name] = str(folder / values[name])
    row = build(Row, values, "The row:", text_numbers=True)
    for name in MEDIA:
        path = getattr(row, name)
        if path is not None and not Path(path).is_file():
            raise ValueError(f"{name} {path} is missing.")
    return row
