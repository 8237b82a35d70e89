"""Many clips from a file of JSON lines.

A line is an object with the fields of `GenerateRequest` (media as paths, beside the file or absolute;
`reference_images` a list of them) and optionally `output`, a file name, and `audio_track`, a number. A field may be
left out or null; an unknown one is an error, and an error costs its own line alone. Empty lines and those that begin
with # are left out. A clip keeps its request: a line whose clip was made from the same is done, one whose clip was made
from another is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..config import HarmonyConfig
from ..geometry import as_fps
from ..media import MediaError, read_audio, read_picture, read_video
from ..outputs import OutputError, is_sync_plot, plot_beside, prepare_output
from ..quoting import quoted, shortened
from ..request import MEDIA, SETTINGS, GenerateRequest, check_numbers
from .record import differences, make_record, read_record

READING = ("audio_track",)  # how a line's files are read
KNOWN = ("output", *SETTINGS, *READING)
LONGEST_NAME = 240  # bytes; file systems take 255
MOST_TOLD = 20  # lines that one error names
LONGEST_TOLD = 300  # characters of each


@dataclass(frozen=True)
class Job:
    """One line: a request whose media are still paths.

    `plot`, its sync plot, lies beside the clip; `record` is what the clip keeps of the request. `replaces` says that a
    clip of another request is there and may go.
    """

    line: int
    output: Path
    plot: Path | None
    values: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    replaces: bool = False

    def request(self, config: HarmonyConfig) -> GenerateRequest:
        """Reads the media for a checkpoint of this config. Raises ValueError."""
        return read_request(self.values, config)


@dataclass
class Jobs:
    """Lines of one process: to be made, made before, and wrong (line -> error)."""

    waiting: list[Job] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)

    @contextmanager
    def catching(self, line: int) -> Iterator[None]:
        """Bad input of one line is kept for the end."""
        try:
            yield
        except (ValueError, OSError) as error:
            self.errors[line] = shortened(str(error), LONGEST_TOLD)

    def raise_errors(self) -> None:
        """Raises ValueError that names every wrong line."""
        if self.errors:
            told = sorted(self.errors.items())
            listed = " ".join(f"line {line}: {error}" for line, error in told[:MOST_TOLD])
            more = f" And {len(told) - MOST_TOLD} more." if len(told) > MOST_TOLD else ""
            raise ValueError(f"{len(told)} of the lines failed. {listed}{more}")


def read_jobs(
    path: Path,
    folder: Path,
    settings: Mapping[str, Any],
    seed: int,
    plots: bool = True,
    rank: int = 0,
    world_size: int = 1,
    weights: Sequence[Path] = (),
    written: Mapping[str, Any] = MappingProxyType({}),
    overwrite: bool = False,
) -> Jobs:
    """The lines of a file, empty ones and comments left out.

    Args:
        folder: where clips go, by default as `00001.mp4` after the line; a clip there of the same request is done.
        settings: for what a line leaves out.
        seed: of the first line; line n without a seed of its own has `seed + n - 1`, whatever else is made.
        plots: whether every clip gets a sync plot.
        rank, world_size: of this process, which gets every `world_size`-th line, whichever were done before.
        weights, written: files that the clips are made with, and how they are written; part of a clip's request.
        overwrite: whether a clip of another request is made anew; else it is an error.

    Raises:
        ValueError: no such file, not UTF-8, or nothing in it; a folder that cannot be written.
    """
    lines = read_lines(path, "--prompts")
    prepare_output(folder / "00001.mp4")
    jobs, owners, read_by = Jobs(), {}, {path.resolve(): "--prompts"}
    for line, text in lines:
        with jobs.catching(line):
            values = {**settings, "seed": seed + line - 1, **_parse(text)}
            check_numbers(values)
            output = folder / _output_name(values.pop("output", f"{line:05d}.mp4"))
            if output.stem.lower() in owners:
                other = owners[output.stem.lower()]
                raise ValueError(f"output is {output.name}, which line {other} writes; give another name.")
            owners[output.stem.lower()] = line
            values |= _media(values, path.parent)
            media = [values[name] for name in MEDIA if values.get(name) is not None]
            read_by |= {file.resolve(): f"line {line}" for file in (*media, *values["reference_images"])}
            job = Job(line, output, plot_beside(output) if plots else None, values)
            if (line - 1) % world_size == rank:
                _place(job, jobs, make_record({**values, **written}, weights), overwrite)
    for job in jobs.waiting:
        with jobs.catching(job.line):
            _check_outputs(job, read_by, overwrite)
    jobs.waiting = [job for job in jobs.waiting if job.line not in jobs.errors]
    jobs.errors = {line: error for line, error in jobs.errors.items() if (line - 1) % world_size == rank}
    return jobs


def _place(job: Job, jobs: Jobs, record: dict[str, Any], overwrite: bool) -> None:
    """To what waits, or to what is done. Raises OutputError for a clip of another request that is to stay."""
    if not job.output.exists():
        jobs.waiting.append(replace(job, record=record))
        return
    before = _record_of(job.output)
    if before is not None and not differences(before, record):
        jobs.done.append(job.line)
    elif overwrite:
        jobs.waiting.append(replace(job, record=record, replaces=True))
    else:
        what = "does not say what it was made from"
        if before is not None:
            what = f"was made from another request ({', '.join(differences(before, record))} differ)"
        raise OutputError(f"{job.output.name} exists and {what}; give --overwrite to make it anew, or another output.")


def _record_of(path: Path) -> dict[str, Any] | None:
    try:
        return read_record(path)
    except MediaError:
        return None


def _check_outputs(job: Job, read_by: Mapping[Path, str], overwrite: bool) -> None:
    """Raises OutputError for a clip that would take the place of what a line reads, or a plot that of somebody's
    picture."""
    reader = read_by.get(job.output.resolve())
    if reader is not None:
        raise OutputError(f"output would overwrite {job.output.name}, which {reader} reads; give another name.")
    if job.plot is None:
        return
    if job.plot.resolve() in read_by:
        reader = read_by[job.plot.resolve()]
        raise OutputError(f"its sync plot would overwrite {job.plot}, which {reader} reads; rename the output.")
    if job.plot.exists() and not overwrite and not is_sync_plot(job.plot):
        raise OutputError(f"its sync plot would overwrite {job.plot}; rename the output, or give --overwrite.")


def read_lines(path: Path, title: str) -> list[tuple[int, str]]:
    """(number, text) of every line that is not empty or a comment. Raises ValueError as `read_text`, or for none."""
    text = read_text(path, title)
    numbered = enumerate(text.split("\n"), 1)  # not splitlines: U+2028 may stand within a text of JSON
    lines = [(number, line) for number, line in numbered if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise ValueError(f"{title} {path} has no lines; write one JSON object a line.")
    return lines


def read_text(path: Path, title: str) -> str:
    """A text file, which errors call `title`. Raises ValueError for one that is missing or not UTF-8."""
    if not path.is_file():
        raise ValueError(f"{title} {path} is missing; give a file of JSON lines.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{title} {path} is not UTF-8 at byte {error.start}; save it as UTF-8.") from error


def parse_line(text: str) -> dict[str, Any]:
    """A line's JSON object. Raises ValueError for another text, or a name that stands there twice."""
    try:
        values = json.loads(text, object_pairs_hook=_once_each)
    except RecursionError as error:
        raise ValueError("not JSON that can be read: it is nested too deep.") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ValueError('not an object with a prompt; write it like {"prompt": "a red ball bounces"}.')
    return values


def _parse(text: str) -> dict[str, Any]:
    values = parse_line(text)
    if "prompt" not in values:
        raise ValueError('not an object with a prompt; write it like {"prompt": "a red ball bounces"}.')
    checked = {name: _value(name, value) for name, value in values.items()}
    return {name: value for name, value in checked.items() if value is not None}


def _media(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The files that a line names, beside the file of lines or absolute."""
    files: dict[str, Any] = {name: folder / values[name] for name in MEDIA if values.get(name) is not None}
    return files | {"reference_images": [folder / image for image in values.get("reference_images") or ()]}


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shortened(twice)} stands there twice; leave one out.")
    return values


def _value(name: str, value: Any) -> Any:
    """What a line says of one field; None where it leaves it out. Numbers may be written as 7.0, rates as texts."""
    if name not in KNOWN:
        raise ValueError(f"unknown field {shortened(name)}; known are {', '.join(KNOWN)}.")
    kind = {"output": str, "audio_track": int}.get(name) or SETTINGS[name].kind
    if (value is None and name != "prompt") or (value == "" and kind is Path):
        return None
    if name == "reference_images":
        if not isinstance(value, list) or not all(isinstance(image, str) for image in value):
            raise ValueError(f"{name} is {quoted(value)}, but must be a list of file names.")
        return value
    if kind is Fraction and isinstance(value, str):
        return as_fps(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    written, said = {
        int: (int, "a whole number"),
        float: (int | float, "a number"),
        Fraction: (int | float, "a number"),
    }.get(kind, (str, "a text"))
    if not isinstance(value, written) or isinstance(value, bool):
        raise ValueError(f"{name} is {quoted(value)}, but must be {said}.")
    return value


def _output_name(name: str) -> str:
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise ValueError(f"output is {quoted(name)}, but must be a file name of at most {LONGEST_NAME} bytes.")
    if Path(name).name != name or Path(name).suffix.lower() != ".mp4":
        raise ValueError(f"output is {quoted(name)}, but must be a plain file name that ends in .mp4.")
    return name


def read_requests(path: Path, config: HarmonyConfig) -> list[GenerateRequest]:
    """The requests of all lines of a file, for a checkpoint of this config. Line n without a seed of its own has n - 1.

    Raises:
        ValueError: names the line.
    """
    requests = []
    for line, text in read_lines(path, "prompts"):
        try:
            values = {"seed": line - 1, **_parse(text)}
            check_numbers(values)
            values |= _media(values, path.parent)
            values.pop("output", None)
            requests.append(read_request(values, config))
        except (ValueError, OSError) as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
    return requests


def read_request(values: Mapping[str, Any], config: HarmonyConfig) -> GenerateRequest:
    """The request whose media are paths in `values`, read no longer and hardly larger than the clip needs.

    Args:
        values: fields of `GenerateRequest` and `audio_track`; `reference_images` is several paths.
        config: has the size and the reference's length that a request without them gets.

    Raises:
        ValueError: as `GenerateRequest`; MediaError for a file that cannot be read.
    """
    image, video, audio, reference = (values.get(name) for name in MEDIA)
    seconds, track = values.get("seconds"), values.get("audio_track")
    reference_seconds = values.get("reference_seconds")
    if reference_seconds is None:
        reference_seconds = config.reference_seconds
    width, height = (values.get(name) or getattr(config, name) for name in ("width", "height"))
    short_side = max(width, height)  # covers the clip whichever way the video lies
    first = None if image is None else read_picture(image)
    looks = [read_picture(path) for path in values.get("reference_images") or ()]
    media = {
        "image": None if first is None else first[0],
        "video": None if video is None else read_video(video, seconds=seconds, short_side=short_side),
        "audio": None if audio is None else read_audio(audio, seconds=seconds, track=track),
        "reference_audio": None if reference is None else read_audio(reference, seconds=reference_seconds, track=track),
        "reference_images": tuple(pixels for pixels, _ in looks),
        "notes": tuple(note for _, said in filter(None, (first, *looks)) for note in said),
    }
    return GenerateRequest(**{name: value for name, value in values.items() if name not in READING} | media)
