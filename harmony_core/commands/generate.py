"""`harmony generate`: one clip, or with --prompts many."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..geometry import as_fps
from ..outputs import check_overwrites, is_sync_plot, plot_beside, prepare_output, whole_file, write_numbered
from ..request import MEDIA, GenerateRequest, check_numbers
from .clips import enlargement, measure_clip
from .options import (
    AudioTrack,
    Json,
    Overwrite,
    PipelineOptions,
    check_seconds,
    check_suffix,
    from_fields,
    lack_of_memory_named,
    say,
)

if TYPE_CHECKING:
    from ..pipelines import Generation, HarmonyPipeline
    from ..pipelines.final import FinalClip
    from ..pipelines.prompts import Job, Jobs
    from ..sync.measure import SyncReport

DEFAULT_OUTPUT = Path("out/harmony.mp4")
LINE_OWN = ("prompt", "audio_prompt", "transcript")  # what a line of --prompts says itself


@dataclass(frozen=True)
class OutputOptions:
    """What is written, and where."""

    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="MP4 to write; with --prompts a folder.", show_default="out/harmony.mp4, numbered"
        ),
    ] = None
    prompts: Annotated[Path | None, typer.Option(help="JSON lines, a request each; see pipelines/prompts.py.")] = None
    audio_track: AudioTrack = None
    given: Annotated[
        str, typer.Option(help="A given film or sound is written as it was (original), or as the model has it (model).")
    ] = "original"
    scale: Annotated[int | None, typer.Option(help="Enlarge the saved video; default: to be viewable.")] = None
    plot: Annotated[bool, typer.Option(help="Also write the sync plot, NAME.sync.png beside the video.")] = True
    save_latents: Annotated[Path | None, typer.Option(help="Also write both latents (.safetensors).")] = None
    overwrite: Overwrite = False
    as_json: Json = False

    def written(self, models: PipelineOptions) -> dict[str, Any]:
        """What belongs to a clip's request beside the request itself and the files of weights."""
        strengths = {name: getattr(models, name) for name in ("lora_video_strength", "lora_audio_strength")}
        loras = strengths if models.lora else {}
        return {"given": self.given, "scale": self.scale, "preset": models.preset, **loras}


@from_fields(GenerateRequest, OutputOptions, PipelineOptions)
def generate(settings: dict[str, Any], out: OutputOptions, models: PipelineOptions) -> None:
    """Make a clip with sound from a prompt, and from a given first frame, video, sound, voice or look."""
    if out.scale is not None and out.scale < 1:
        raise ValueError(f"--scale is {out.scale}, but must be a whole number from 1.")
    check_seconds("--seconds", settings["seconds"])
    check_seconds("--reference-seconds", settings["reference_seconds"])
    if settings["fps"] is not None:
        settings["fps"] = as_fps(settings["fps"])
    settings["audio_track"] = out.audio_track
    if out.prompts is not None:
        _generate_lines(out.prompts, settings, out, models)
    else:
        _generate_one(settings, out, models)


def _generate_lines(prompts: Path, settings: dict[str, Any], out: OutputOptions, models: PipelineOptions) -> None:
    """Every waiting clip of this process; a line that fails costs no other. Raises ValueError at the end if any did."""
    own = {_option(name): settings.pop(name) for name in (*LINE_OWN, *MEDIA, "reference_images")}
    own |= {"--save-latents": out.save_latents, "--json": out.as_json}
    given = [name for name, value in own.items() if value]
    if given:
        raise ValueError(f"--prompts has a request a line; leave {', '.join(given)} out.")
    from ..pipelines.prompts import read_jobs

    seed, folder = settings.pop("seed"), out.output or Path("out")
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    weights, written = models.weights(), out.written(models)
    jobs = read_jobs(prompts, folder, settings, seed, out.plot, rank, processes, weights, written, out.overwrite)
    for line in jobs.done:
        print(f"line {line}: made before")
    _run_jobs(jobs, models, out)


def _option(name: str) -> str:
    """How a setting is written on the command line."""
    return {"prompt": "PROMPT", "reference_images": "--reference-image"}.get(name, f"--{name.replace('_', '-')}")


def _run_jobs(jobs: Jobs, models: PipelineOptions, out: OutputOptions) -> None:
    if jobs.waiting:
        pipeline = models.load()
        for job in jobs.waiting:
            with jobs.catching(job.line), lack_of_memory_named():
                _run_job(job, pipeline, out)
    jobs.raise_errors()


def _run_job(job: Job, pipeline: HarmonyPipeline, out: OutputOptions) -> None:
    from ..pipelines.record import as_comment

    request = job.request(pipeline.config)
    clip, final = _make_clip(pipeline, request, out, f"line {job.line}")
    _write(final, job.output, out.scale, as_comment(job.record))
    _measure(final, job.plot, request.prompt)
    replaced = ", replaced one of another request" if job.replaces else ""
    say(f"line {job.line}: {job.output}, seed {clip.seed}{replaced}")


def _generate_one(settings: dict[str, Any], out: OutputOptions, models: PipelineOptions) -> None:
    if settings["prompt"] is None:
        raise ValueError("There is no prompt; give one in quotes, or --prompts FILE.")
    if settings["video"] is not None and settings["audio"] is not None:
        raise ValueError("--video and --audio are both given, so nothing is left to generate; leave one of them out.")
    if out.audio_track is not None and settings["audio"] is None and settings["reference_audio"] is None:
        raise ValueError("--audio-track is given, but no --audio or --reference-audio; leave it out.")
    check_suffix("-o", out.output, ".mp4")
    check_suffix("--save-latents", out.save_latents, ".safetensors")
    settings["reference_images"] = settings["reference_images"] or []
    media = [*(settings[name] for name in MEDIA), *settings["reference_images"]]
    _check_outputs(out, [*media, *models.files])
    from ..pipelines.prompts import read_request
    from ..pipelines.record import as_comment, make_record

    check_numbers(settings)
    request = read_request(settings, models.config())
    comment = as_comment(make_record({**settings, **out.written(models)}, models.weights()))
    clip, final = _make_clip(models.load(), request, out)
    output = _write(final, out.output, out.scale, comment)
    plot = plot_beside(output) if out.plot else None
    report = _measure(final, plot, request.prompt)
    if out.save_latents is not None:
        _save_latents(clip, out.save_latents)
    made = (output, None if report is None else plot, out.save_latents)
    _print_result(clip, final, report, [str(path) for path in made if path is not None], out.as_json)


def _check_outputs(out: OutputOptions, inputs: list[Path | None]) -> None:
    """Before any work: every output can be written, and nothing is lost by it. Raises OutputError."""
    plot = plot_beside(out.output) if out.plot and out.output is not None else None
    drawn_before = plot is not None and plot.is_file() and is_sync_plot(plot)
    named = {"-o": out.output, "--save-latents": out.save_latents}
    check_overwrites({**named, "-o's sync plot": plot}, inputs, overwrite=True)
    check_overwrites(named if drawn_before else {**named, "-o's sync plot": plot}, [], out.overwrite)
    for path in (out.output or DEFAULT_OUTPUT, plot, out.save_latents):
        if path is not None:
            prepare_output(path)


def _make_clip(
    pipeline: HarmonyPipeline, request: GenerateRequest, out: OutputOptions, line: str = ""
) -> tuple[Generation, FinalClip]:
    """The clip and what is written of it, unless that could not be. What is to be known is said before sampling."""
    from ..pipelines.final import check_given, final_clip

    check_given(request, out.given, out.scale or 1)
    geometry = pipeline.geometry(request)
    enlargement(geometry.height, geometry.width, out.scale)

    def announce(notes: Sequence[tuple[str, ...]]) -> None:
        for note in () if out.as_json else notes[0]:
            say(f"{line and line + ': '}note: {note}")

    with _progress_bar(line or "sampling") as progress:
        clip = pipeline(request, progress, announce)
    final = final_clip(clip, request, out.given)
    for note in () if out.as_json else final.notes:
        say(f"{line and line + ': '}note: {note}")
    return clip, final


def _print_result(
    clip: Generation, final: FinalClip, report: SyncReport | None, written: list[str], as_json: bool
) -> None:
    if as_json:
        facts = {
            "written": written,
            "seed": clip.seed,
            "frames": len(final.frames),
            "fps": float(final.fps),
            "size": list(final.size),
            "samples": 0 if final.samples is None else final.samples.shape[1],
            "sample_rate": final.sample_rate,
            "passes_per_step": clip.passes_per_step,
            "notes": [*clip.notes, *final.notes],
            "sync": None if report is None else report.to_dict(),
        }
        print(json.dumps(facts))
        return
    length = f"{float(len(final.frames) / final.fps):g} s"
    say(f"{', '.join(written)}: {length}, seed {clip.seed}, {clip.passes_per_step:g} passes a step")
    if report is None:
        print("no sound: this checkpoint makes pictures alone")
    else:
        from ..sync.plot import describe

        print(describe(report))


def _save_latents(clip: Generation, path: Path) -> None:
    from ..checkpoints.write import write_safetensors

    latents = {"video": clip.latents_video, "audio": clip.latents_audio}
    latents = {name: value for name, value in latents.items() if value is not None}
    write_safetensors(path, latents, {"fps": str(clip.fps), "sample_rate": str(clip.sample_rate)})


def _write(final: FinalClip, output: Path | None, scale: int | None, comment: str) -> Path:
    """The MP4, under the next free default name where it has none of its own. A given film is not enlarged unasked."""
    from ..media import encode_video

    width, height = final.size
    times = scale or 1 if final.given_film else enlargement(height, width, scale)
    sound = {"channels": final.channels, "bit_rate": final.bit_rate}

    def write(part: Path) -> None:
        encode_video(
            part, final.written(), final.fps, final.samples, final.sample_rate, times, comment=comment, **sound
        )

    if output is None:
        return write_numbered(DEFAULT_OUTPUT, lambda path: not plot_beside(path).exists(), write)
    with whole_file(output) as part:
        write(part)
    return output


def _measure(final: FinalClip, plot: Path | None, title: str) -> SyncReport | None:
    """The sync report of what was written and its plot, where it has sound."""
    if final.samples is None:
        return None
    from ..media import AudioClip, to_mono

    mono_N, _ = to_mono(AudioClip(final.samples, final.sample_rate, channels=final.channels))
    return measure_clip(final.frames, final.fps, mono_N[None], final.sample_rate, plot, title)


@contextmanager
def _progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that appears with the first step, so that notes come before it."""
    from tqdm import tqdm

    with ExitStack() as shown:
        bar = None

        def update(done: int, total: int) -> None:
            nonlocal bar
            if bar is None:
                bar = shown.enter_context(tqdm(desc=title, unit="step", total=total, leave=False))
            bar.update(done - bar.n)

        yield update
