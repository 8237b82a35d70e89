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

from ..media import prepare_output, read_audio, read_image, read_video
from .request import MEDIA, GenerateRequest

NUMBERS = (
    *("seconds", "fps", "shift", "reference_seconds"),
    *("video_sync_scale", "audio_sync_scale", "video_text_scale", "audio_text_scale"),
    *("video_reference_scale", "audio_reference_scale"),
)
INTEGERS = ("width", "height", "seed", "steps")
KNOWN = ("output", *(item.name for item in fields(GenerateRequest)))


@dataclass(frozen=True)
class Job:
    """One line: a request whose media are still paths."""

    line: int
    output: Path
    values: dict[str, Any]

    def request(self) -> GenerateRequest:
        """Reads the media. Raises ValueError."""
        media = {name: self.values.get(name) for name in (*MEDIA, "reference_images")}
        sizes = (self.values.get(name) for name in ("seconds", "width", "height"))
        return GenerateRequest(**self.values | read_media(media, *sizes))


@dataclass(frozen=True)
class Jobs:
    """Lines of one process: to be made, made before, and wrong (line -> error)."""

    waiting: list[Job]
    done: list[int] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)

    def share(self, rank: int, world_size: int) -> Jobs:
        """Every `world_size`-th line, so that it does not matter which were done before."""

        def own(line: int) -> bool:
            return (line - 1) % world_size == rank

        errors = {line: error for line, error in self.errors.items() if own(line)}
        return Jobs([job for job in self.waiting if own(job.line)], [line for line in self.done if own(line)], errors)

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


def read_jobs(path: Path, folder: Path, settings: Mapping[str, Any], seed: int) -> Jobs:
    """The lines of a file, empty ones left out.

    Args:
        folder: where clips go, by default as `00001.mp4` after the line; a clip that is there counts as done.
        settings: for what a line leaves out.
        seed: of the first line; line n without a seed of its own has `seed + n - 1`, whatever else is made.

    Raises:
        ValueError: no such file, or nothing in it.
    """
    if not path.is_file():
        raise ValueError(f"--prompts {path} is missing; give a file of JSON lines.")
    jobs, owners = Jobs([]), {}
    for line, text in enumerate(path.read_text().splitlines(), 1):
        if not text.strip():
            continue
        with jobs.catching(line):
            values = {**settings, "seed": seed + line - 1, **_parse(text)}
            output = folder / _output_name(values.pop("output", f"{line:05d}.mp4"))
            if output in owners:
                raise ValueError(f"output is {output.name}, which line {owners[output]} writes; give another name.")
            owners[output] = line
            values |= {name: path.parent / values[name] for name in MEDIA if values.get(name) is not None}
            values["reference_images"] = [path.parent / image for image in values.get("reference_images", ())]
            if output.exists():
                jobs.done.append(line)
                continue
            prepare_output(output)
            jobs.waiting.append(Job(line, output, values))
    if not (jobs.waiting or jobs.done or jobs.errors):
        raise ValueError(f"--prompts {path} has no lines; write one JSON object a line.")
    return jobs


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


def read_media(
    paths: Mapping[str, Any], seconds: float | None, width: int | None, height: int | None
) -> dict[str, Any]:
    """The media fields of a request, no longer and hardly larger than the clip needs, from a path each.

    `reference_images` is several paths. Raises MediaError.
    """
    image, video, audio, reference = (paths[name] for name in MEDIA)
    short_side = 1080 if width is None or height is None else max(width, height)
    return {
        "image": None if image is None else read_image(image),
        "video": None if video is None else read_video(video, seconds=seconds, short_side=short_side),
        "audio": None if audio is None else read_audio(audio, seconds=seconds),
        "reference_audio": None if reference is None else read_audio(reference),
        "reference_images": tuple(read_image(path) for path in paths["reference_images"]),
    }
