"""`harmony generate`: one clip, or with --prompts many."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .clips import enlargement, measure_clip, write_clip
from .options import (
    AudioModel,
    AudioVae,
    Compile,
    Device,
    DriverCache,
    Dtype,
    Json,
    Model,
    Offload,
    Preset,
    ReferenceImage,
    TextEncoder,
    Tokenizer,
    VideoVae,
    check_seconds,
    check_suffix,
    lack_of_memory_named,
    load_pipeline,
    read_config,
)

if TYPE_CHECKING:
    from ..evaluation.sync import SyncReport
    from ..pipelines import GenerateRequest, Generation, HarmonyPipeline
    from ..pipelines.prompts import Jobs


def generate(
    prompt: Annotated[str | None, typer.Argument(help="What is to be seen.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="MP4 to write; with --prompts a folder.", show_default="out")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="JSON lines, a request each; see pipelines/prompts.py.")] = None,
    audio_prompt: Annotated[str, typer.Option(help="What is to be heard.")] = "",
    transcript: Annotated[str, typer.Option(help="Words to be spoken.")] = "",
    negative_prompt: Annotated[
        str | None, typer.Option(help="What is not to be seen (text guidance); default: the model's.")
    ] = None,
    negative_audio_prompt: Annotated[
        str | None, typer.Option(help="What is not to be heard (text guidance); default: the model's.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="First frame.")] = None,
    video: Annotated[Path | None, typer.Option(help="Video that gets a sound.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Sound that gets a picture.")] = None,
    reference_audio: Annotated[Path | None, typer.Option(help="Voice or timbre to follow.")] = None,
    reference_seconds: Annotated[float, typer.Option(help="How much of the reference is heard.")] = 0.48,
    reference_image: ReferenceImage = None,
    seconds: Annotated[float | None, typer.Option(help="Length; default: the given media's, else the model's.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second; default: the model's.")] = None,
    width: Annotated[int | None, typer.Option(help="Default: the model's.")] = None,
    height: Annotated[int | None, typer.Option(help="Default: the model's.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same clip.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; default: the model's.")] = None,
    shift: Annotated[float | None, typer.Option(help="Of the noise schedule; default: the model's.")] = None,
    solver: Annotated[str, typer.Option(help="Name of a solver; a wrong one lists them.")] = "euler",
    video_sync_scale: Annotated[float | None, typer.Option(help="SyncCFG of the video; 1 is off, no cost.")] = None,
    audio_sync_scale: Annotated[float | None, typer.Option(help="SyncCFG of the sound; 1 is off, no cost.")] = None,
    video_text_scale: Annotated[float | None, typer.Option(help="Text guidance of the video; 1 is off.")] = None,
    audio_text_scale: Annotated[float | None, typer.Option(help="Text guidance of the sound; 1 is off.")] = None,
    video_reference_scale: Annotated[
        float | None, typer.Option(help="How closely the video follows the reference images; 1 is off.")
    ] = None,
    audio_reference_scale: Annotated[
        float | None, typer.Option(help="How closely the sound follows appended reference audio; 1 is off.")
    ] = None,
    static_video: Annotated[str, typer.Option(help="SyncCFG's still: auto, grey, image or estimate.")] = "auto",
    scale: Annotated[int | None, typer.Option(help="Enlarge the saved video; default: to be viewable.")] = None,
    plot: Annotated[bool, typer.Option(help="Also write the sync plot, a PNG beside the video.")] = True,
    save_latents: Annotated[Path | None, typer.Option(help="Also write both latents (.safetensors).")] = None,
    model: Model = "harmony-tiny",
    audio_model: AudioModel = None,
    video_vae: VideoVae = None,
    audio_vae: AudioVae = None,
    text_encoder: TextEncoder = None,
    tokenizer: Tokenizer = None,
    preset: Preset = None,
    offload: Offload = "none",
    driver_cache: DriverCache = "auto",
    compile_layers: Compile = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Make a clip with sound from a prompt, and from a given first frame, video, sound, voice or look."""
    settings = {
        "negative_prompt": negative_prompt,
        "negative_audio_prompt": negative_audio_prompt,
        "seconds": seconds,
        "fps": fps,
        "width": width,
        "height": height,
        "reference_seconds": reference_seconds,
        "steps": steps,
        "shift": shift,
        "solver": solver,
        "video_sync_scale": video_sync_scale,
        "audio_sync_scale": audio_sync_scale,
        "video_text_scale": video_text_scale,
        "audio_text_scale": audio_text_scale,
        "video_reference_scale": video_reference_scale,
        "audio_reference_scale": audio_reference_scale,
        "static_video": static_video,
    }
    files = {
        "audio_model": audio_model,
        "video_vae": video_vae,
        "audio_vae": audio_vae,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "preset": preset,
    }
    media = {"image": image, "video": video, "audio": audio, "reference_audio": reference_audio}
    media["reference_images"] = reference_image or []
    if scale is not None and scale < 1:
        raise ValueError(f"--scale is {scale}, but must be a whole number from 1.")
    check_seconds("--seconds", seconds)
    check_seconds("--reference-seconds", reference_seconds)

    def load() -> HarmonyPipeline:
        return load_pipeline(model, device, dtype, offload, driver_cache, compile_layers, **files)

    if prompts is not None:
        own = {"PROMPT": prompt, "--audio-prompt": audio_prompt, "--transcript": transcript, **media}
        own |= {"--save-latents": save_latents, "--json": as_json}
        given = [name for name, value in own.items() if value]
        if given:
            raise ValueError(f"--prompts has a request a line; leave {', '.join(given)} out.")
        _run_jobs(_read_jobs(prompts, output or Path("out"), settings, seed, plot), load, scale)
        return
    if prompt is None:
        raise ValueError("There is no prompt; give one in quotes, or --prompts FILE.")
    if video is not None and audio is not None:
        raise ValueError("--video and --audio are both given, so nothing is left to generate; leave one of them out.")
    output = output or Path("out/harmony.mp4")
    check_suffix("-o", output, ".mp4")
    check_suffix("--save-latents", save_latents, ".safetensors")
    from ..outputs import check_overwrites, prepare_output

    plot_path = output.with_suffix(".png") if plot else None
    weights = [Path(model), audio_model, video_vae, *(audio_vae or []), text_encoder, tokenizer]
    check_overwrites(
        {"-o": output, "-o's sync plot": plot_path, "--save-latents": save_latents},
        [image, video, audio, reference_audio, *media["reference_images"], *weights],
    )
    for path in (output, plot_path, save_latents):
        if path is not None:
            prepare_output(path)

    from ..pipelines import GenerateRequest
    from ..pipelines.prompts import read_media
    from ..pipelines.request import check_numbers

    settings |= {"prompt": prompt, "audio_prompt": audio_prompt, "transcript": transcript, "seed": seed}
    check_numbers(settings)
    request = GenerateRequest(**settings, **read_media(settings | media, read_config(model, audio_model, preset)))
    clip = _make_clip(load(), request, scale)
    report = _save_clip(clip, output, scale, plot_path, prompt)
    if save_latents is not None:
        _save_latents(clip, save_latents)
    made = (output, None if report is None else plot_path, save_latents)
    _print_result(clip, report, [str(path) for path in made if path is not None], seed, as_json)


def _print_result(clip: Generation, report: SyncReport | None, written: list[str], seed: int, as_json: bool) -> None:
    if as_json:
        facts = {
            "written": written,
            "seed": seed,
            "frames": len(clip.frames),
            "fps": float(clip.fps),
            "size": [clip.frames.shape[2], clip.frames.shape[1]],
            "samples": 0 if clip.samples is None else clip.samples.shape[1],
            "sample_rate": clip.sample_rate,
            "passes_per_step": clip.passes_per_step,
            "notes": clip.notes,
            "sync": None if report is None else report.to_dict(),
        }
        print(json.dumps(facts))
        return
    for note in clip.notes:
        print(f"note: {note}")
    length = f"{float(len(clip.frames) / clip.fps):g} s"
    print(f"{', '.join(written)}: {length}, seed {seed}, {clip.passes_per_step:g} passes a step")
    if report is None:
        print("no sound: this checkpoint makes pictures alone")
    else:
        from ..evaluation.plot import describe

        print(describe(report))


def _make_clip(
    pipeline: HarmonyPipeline, request: GenerateRequest, scale: int | None, title: str = "sampling"
) -> Generation:
    """The clip, unless it could not be written."""
    geometry = pipeline.geometry(request)
    enlargement(geometry.height, geometry.width, scale)
    with _progress_bar(title) as progress:
        return pipeline(request, progress)


def _save_latents(clip: Generation, path: Path) -> None:
    from ..checkpoints.write import write_safetensors

    latents = {"video": clip.latents_video, "audio": clip.latents_audio}
    latents = {name: value for name, value in latents.items() if value is not None}
    write_safetensors(path, latents, {"fps": str(clip.fps), "sample_rate": str(clip.sample_rate)})


def _save_clip(clip: Generation, output: Path, scale: int | None, plot: Path | None, title: str) -> SyncReport | None:
    """Where it has sound the sync plot and its report, then the video: with --prompts a video that exists is done."""
    report = None
    if clip.samples is not None:
        report = measure_clip(clip.frames, clip.fps, clip.samples, clip.sample_rate, plot, title)
    write_clip(output, clip.frames, clip.fps, clip.samples, clip.sample_rate, scale)
    return report


def _read_jobs(prompts: Path, folder: Path, settings: dict[str, Any], seed: int, plot: bool) -> Jobs:
    """This process's share of the lines."""
    from ..pipelines.prompts import read_jobs

    rank, world_size = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    jobs = read_jobs(prompts, folder, settings, seed, plot, rank, world_size)
    for line in jobs.done:
        print(f"line {line}: made before")
    return jobs


def _run_jobs(jobs: Jobs, load: Callable[[], HarmonyPipeline], scale: int | None) -> None:
    """Every waiting clip; a line that fails costs no other. Raises ValueError at the end if any failed."""
    pipeline = load() if jobs.waiting else None
    for job in jobs.waiting:
        with jobs.catching(job.line), lack_of_memory_named():
            request = job.request(pipeline.config)
            clip = _make_clip(pipeline, request, scale, f"line {job.line}")
            _save_clip(clip, job.output, scale, job.plot, request.prompt)
            for note in clip.notes:
                print(f"line {job.line}: note: {note}")
            print(f"line {job.line}: {job.output}, seed {request.seed}")
    jobs.raise_errors()


@contextmanager
def _progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    from tqdm import tqdm

    with tqdm(desc=title, unit="step", leave=False) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update
