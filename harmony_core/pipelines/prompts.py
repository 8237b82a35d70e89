"""Many clips from a file of JSON lines.

A line is an object with the fields of `GenerateRequest` (media as paths, beside the file or absolute;
`reference_images` a list of them) and optionally `output`, a file name. A field may be left out; an unknown one is an
error, and an error costs its own line alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..config import HarmonyConfig
from ..media import read_audio, read_image, read_video
from ..outputs import prepare_output
from .request import INTEGERS, MEDIA, NUMBERS, GenerateRequest, check_numbers

KNOWN = ("output", *(item.name for item in fields(GenerateRequest)))


@dataclass(frozen=True)
class Job:
    """One line: a request whose media are still paths. `plot`, its sync plot, lies beside the clip."""

    line: int
    output: Path
    plot: Path | None
    values: dict[str, Any]

    def request(self, config: HarmonyConfig) -> GenerateRequest:
        """Reads the media for a checkpoint of this config. Raises ValueError."""
        return GenerateRequest(**self.values | read_media(self.values, config))


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
            self.errors[line] = str(error)

    def raise_errors(self) -> None:
        """Raises ValueError that names every wrong line."""
        if self.errors:
            listed = " ".join(f"line {line}: {error}" for line, error in sorted(self.errors.items()))
            raise ValueError(f"{len(self.errors)} of the lines failed. {listed}")


def read_jobs(
    path: Path,
    folder: Path,
    settings: Mapping[str, Any],
    seed: int,
    plots: bool = True,
    rank: int = 0,
    world_size: int = 1,
) -> Jobs:
    """The lines of a file, empty ones left out.

    Args:
        folder: where clips go, by default as `00001.mp4` after the line; a clip that is there counts as done.
        settings: for what a line leaves out.
        seed: of the first line; line n without a seed of its own has `seed + n - 1`, whatever else is made.
        plots: whether every clip gets a sync plot.
        rank, world_size: of this process, which gets every `world_size`-th line, whichever were done before.

    Raises:
        ValueError: no such file, not UTF-8, or nothing in it; a folder that cannot be written.
    """
    lines = _read_lines(path)
    prepare_output(folder / f"rank{rank}.part")  # a name that no other process tries
    jobs, owners, read_by = Jobs(), {}, {path.resolve(): "--prompts"}
    for line, text in lines:
        with jobs.catching(line):
            values = {**settings, "seed": seed + line - 1, **_parse(text)}
            check_numbers(values)
            output = folder / _output_name(values.pop("output", f"{line:05d}.mp4"))
            if output.stem in owners:
                raise ValueError(
                    f"output is {output.name}, which line {owners[output.stem]} writes; give another name."
                )
            owners[output.stem] = line
            values |= {name: path.parent / values[name] for name in MEDIA if values.get(name) is not None}
            values["reference_images"] = [path.parent / image for image in values.get("reference_images", ())]
            media = [values[name] for name in MEDIA if values.get(name) is not None]
            read_by |= {file.resolve(): f"line {line}" for file in (*media, *values["reference_images"])}
            job = Job(line, output, output.with_suffix(".png") if plots else None, values)
            if (line - 1) % world_size == rank:
                jobs.done.append(line) if output.exists() else jobs.waiting.append(job)
    for job in jobs.waiting:
        with jobs.catching(job.line):
            if job.plot is not None and job.plot.resolve() in read_by:
                reader = read_by[job.plot.resolve()]
                raise ValueError(f"its sync plot would overwrite {job.plot}, which {reader} reads; rename the output.")
    jobs.waiting = [job for job in jobs.waiting if job.line not in jobs.errors]
    jobs.errors = {line: error for line, error in jobs.errors.items() if (line - 1) % world_size == rank}
    return jobs


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """(number, text) of every line that is not empty."""
    if not path.is_file():
        raise ValueError(f"--prompts {path} is missing; give a file of JSON lines.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"--prompts {path} is not UTF-8 at byte {error.start}; save it as UTF-8.") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError(f"--prompts {path} has no lines; write one JSON object a line.")
    return lines


def _parse(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}.") from error
    if not isinstance(values, dict) or "prompt" not in values:
        raise ValueError('not an object with a prompt; write it like {"prompt": "a red ball bounces"}.')
    for name, value in values.items():
        if name not in KNOWN:
            raise ValueError(f"unknown field {name}; known are {', '.join(KNOWN)}.")
        kind, said = str, "a text"
        if name in INTEGERS:
            kind, said = int, "a whole number"
        elif name in NUMBERS:
            kind, said = int | float, "a number"
        elif name == "reference_images":
            if not isinstance(value, list) or not all(isinstance(image, str) for image in value):
                raise ValueError(f"{name} is {value!r}, but must be a list of file names.")
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}, but must be {said}.")
    return values


def _output_name(name: str) -> str:
    if Path(name).name != name or Path(name).suffix.lower() != ".mp4":
        raise ValueError(f"output is {name!r}, but must be a plain file name that ends in .mp4.")
    return name


def read_media(values: Mapping[str, Any], config: HarmonyConfig) -> dict[str, Any]:
    """The media fields of a request, no longer and hardly larger than the clip needs, from a path each.

    Args:
        values: fields of `GenerateRequest`; `reference_images` is several paths.
        config: has the size that a request without one gets.

    Raises:
        MediaError: a file that cannot be read.
    """
    image, video, audio, reference = (values.get(name) for name in MEDIA)
    seconds, reference_seconds = values.get("seconds"), values.get("reference_seconds")
    width, height = (values.get(name) or getattr(config, name) for name in ("width", "height"))
    short_side = max(width, height)  # covers the clip whichever way the video lies
    return {
        "image": None if image is None else read_image(image),
        "video": None if video is None else read_video(video, seconds=seconds, short_side=short_side),
        "audio": None if audio is None else read_audio(audio, seconds=seconds),
        "reference_audio": None if reference is None else read_audio(reference, seconds=reference_seconds),
        "reference_images": tuple(read_image(path) for path in values["reference_images"]),
    }
