"""The commands of `harmony`. Heavy imports stay inside them, so that --help is instant."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .bench_commands import bench
from .command_options import (
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
    load_pipeline,
)
from .convert_command import convert

if TYPE_CHECKING:
    from collections.abc import Callable

    from .evaluation.sync import SyncReport
    from .pipelines import Generation, HarmonyPipeline
    from .pipelines.prompts import Jobs

app = typer.Typer(
    help="Harmony: video and sound generated together, in sync.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(bench, name="bench")
app.command()(convert)

VIEWABLE_SIDE = 256  # smaller clips are enlarged to about this when saved
PREVIEW_SIDE = 160  # frames of a measured file, enough for the film strip


@app.command()
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
    parts = {
        "audio_model": audio_model,
        "video_vae": video_vae,
        "audio_vae": audio_vae,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "preset": preset,
    }
    running = device, dtype, offload, driver_cache, compile_layers
    media = {"image": image, "video": video, "audio": audio, "reference_audio": reference_audio}
    media["reference_images"] = reference_image or []
    if scale is not None and scale < 1:
        raise ValueError(f"--scale is {scale}, but must be a whole number from 1.")
    _check_seconds("--seconds", seconds)
    _check_seconds("--reference-seconds", reference_seconds)
    if prompts is not None:
        own = {"PROMPT": prompt, "--audio-prompt": audio_prompt, "--transcript": transcript, **media}
        given = [name for name, value in (own | {"--save-latents": save_latents}).items() if value]
        if given:
            raise ValueError(f"--prompts has a request a line; leave {', '.join(given)} out.")
        jobs = _read_jobs(prompts, output or Path("out"), settings, seed)
        if jobs.waiting:
            _run_jobs(jobs, load_pipeline(model, *running, **parts), scale, plot)
        jobs.raise_errors()
        return
    if prompt is None:
        raise ValueError("There is no prompt; give one in quotes, or --prompts FILE.")
    if video is not None and audio is not None:
        raise ValueError("--video and --audio are both given, so nothing is left to generate; leave one of them out.")
    output = output or Path("out/harmony.mp4")
    if output.suffix.lower() != ".mp4":
        raise ValueError(f"-o {output} must end in .mp4, for example {output.with_suffix('.mp4')}.")
    from .media import prepare_output

    plot_path = output.with_suffix(".png") if plot else None
    for path in (output, plot_path, save_latents):
        if path is not None:
            prepare_output(path)

    from .pipelines import GenerateRequest
    from .pipelines.prompts import read_media

    given = read_media(media, seconds, width, height)

    request = GenerateRequest(
        prompt=prompt, audio_prompt=audio_prompt, transcript=transcript, seed=seed, **settings, **given
    )
    pipeline = load_pipeline(model, *running, **parts)
    with _progress_bar() as progress:
        clip = pipeline(request, progress)
    report = _save_clip(clip, output, scale, plot_path, prompt)
    if save_latents is not None:
        from safetensors.torch import save_file

        latents = {"video": clip.latents_video, "audio": clip.latents_audio}
        latents = {name: value.contiguous() for name, value in latents.items() if value is not None}
        save_file(latents, save_latents, metadata={"fps": str(clip.fps), "sample_rate": str(clip.sample_rate)})
    made = (output, None if report is None else plot_path, save_latents)
    written = [str(path) for path in made if path is not None]
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
        from .evaluation.plot import describe

        print(describe(report))


@app.command()
def sync(
    file: Annotated[Path, typer.Argument(help="Any video file with sound.")],
    seconds: Annotated[float, typer.Option(help="How much of the file is measured.")] = 60.0,
    plot: Annotated[Path | None, typer.Option(help="PNG to write.")] = None,
    as_json: Json = False,
) -> None:
    """Measure how far sound and picture of a file are apart."""
    from .evaluation.plot import describe
    from .media import prepare_output, read_audio, read_video

    _check_seconds("--seconds", seconds)
    if plot is not None:
        prepare_output(plot)
    audio = read_audio(file, seconds=seconds)
    video = read_video(file, seconds=seconds, short_side=PREVIEW_SIDE)
    report = _measure(video.frames, video.fps, audio.samples, audio.sample_rate, plot, file.name)
    if as_json:
        print(json.dumps({"file": str(file), **report.to_dict()}))
        return
    print(describe(report))
    print(f"{len(report.video_events)} events in the picture at {_times(report.video_events)}")
    print(f"{len(report.audio_events)} onsets in the sound at {_times(report.audio_events)}")


@app.command()
def info(
    checkpoint: Annotated[str, typer.Argument(help="A .safetensors file or the name of an embedded checkpoint.")],
    memory: Annotated[bool, typer.Option(help="How much device memory it needs; also for a preset's name.")] = False,
    as_json: Json = False,
) -> None:
    """Print what a weight file is: a checkpoint, or a published transformer, autoencoder, text encoder or LoRA."""
    from .config import PRESETS, HarmonyConfig
    from .pipelines.identify import identify
    from .pipelines.memory import memory_table

    if memory and checkpoint in PRESETS:
        print(memory_table(PRESETS[checkpoint]))
        return
    facts = identify(checkpoint)
    if memory:
        if "num_layers" not in facts["config"]:
            raise ValueError(f"--memory is about transformers, but {checkpoint} is: {facts['layout']}.")
        print(memory_table(HarmonyConfig.from_dict(facts["config"])))
        return
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{facts['file']}: {facts['layout']}, {facts['bytes'] / 1e6:.1f} MB")
    print(f"  for: {facts['for']}")
    for name, part in facts["parts"].items():
        dtypes = ", ".join(part["dtypes"])
        print(f"  {name:14} {part['parameters']:>15,} parameters in {part['tensors']} tensors, {dtypes}")
    for title in ("config", "model_card"):
        print(f"{title.replace('_', ' ')}:")
        for name, value in facts[title].items():
            print(f"  {name:22} {value if isinstance(value, str) else json.dumps(value)}")


@app.command()
def train(
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings over the file's: section.name=value.")] = None,
    config: Annotated[str, typer.Option("--config", "-c", help="YAML file, or the name of a shipped one.")] = "tiny",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")] = Path("runs/tiny"),
    resume: Annotated[bool, typer.Option(help="Continue the run in the folder.")] = False,
) -> None:
    """Train autoencoders and transformer as a config says."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    shipped = Path(__file__).parent / "training" / "configs"
    path = shipped / f"{config}.yaml" if (shipped / f"{config}.yaml").is_file() else Path(config)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in shipped.glob("*.yaml")))
        raise ValueError(f"There is no training config {config}; give a YAML file or one of: {names}.")
    from .training.trainer import run

    print(run(path, output, resume, overrides or []))


@app.command()
def encode(
    file: Annotated[Path, typer.Argument(help="Video with sound.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Latents to write (.safetensors).")],
    preview: Annotated[Path | None, typer.Option(help="MP4 of the latents decoded again.")] = None,
    model: Model = "harmony-tiny",
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Encode a file with a checkpoint's autoencoders, and look at what they keep."""
    from safetensors.torch import save_file

    from .diffusion.latents import AVLatents
    from .media import fit_audio, fit_video, prepare_output, read_audio, read_video, write_video
    from .pipelines import GenerateRequest

    for path in (output, preview):
        if path is not None:
            prepare_output(path)
    video, audio = read_video(file), read_audio(file)
    pipeline = load_pipeline(model, device, dtype)
    geometry = pipeline.geometry(GenerateRequest(prompt="", video=video))
    frames, video_notes = fit_video(video, geometry)
    samples, audio_notes = fit_audio(audio, geometry.num_samples, geometry.sample_rate)
    latents = AVLatents(pipeline.encode_video(frames), pipeline.encode_audio(samples, geometry.num_audio_latents))
    facts = {"fps": str(geometry.fps), "sample_rate": str(geometry.sample_rate), "model": model}
    save_file({"video": latents.video.contiguous(), "audio": latents.audio.contiguous()}, output, metadata=facts)
    if preview is not None:
        decoded_frames, decoded_samples = pipeline.decode(latents, geometry)
        scale = max(1, math.ceil(VIEWABLE_SIDE / min(decoded_frames.shape[1:3])))
        write_video(preview, decoded_frames, geometry.fps, decoded_samples, geometry.sample_rate, scale=scale)
    for note in (*geometry.snapped, *video_notes, *audio_notes):
        print(f"note: {note}")
    print(f"{output}: video {list(latents.video.shape)}, audio {list(latents.audio.shape)}")


def _save_clip(clip: Generation, output: Path, scale: int | None, plot: Path | None, title: str) -> SyncReport | None:
    """The video, and where it has sound the sync plot and its report."""
    from .media import write_video

    if scale is None:
        scale = max(1, math.ceil(VIEWABLE_SIDE / min(clip.frames.shape[1:3])))
    write_video(output, clip.frames, clip.fps, clip.samples, clip.sample_rate, scale=scale)
    if clip.samples is None:
        return None
    return _measure(clip.frames, clip.fps, clip.samples, clip.sample_rate, plot, title)


def _read_jobs(prompts: Path, folder: Path, settings: dict[str, Any], seed: int) -> Jobs:
    """This process's share of the lines."""
    from .pipelines.prompts import read_jobs

    rank, world_size = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    jobs = read_jobs(prompts, folder, settings, seed).share(rank, world_size)
    for line in jobs.done:
        print(f"line {line}: made before")
    return jobs


def _run_jobs(jobs: Jobs, pipeline: HarmonyPipeline, scale: int | None, plot: bool) -> None:
    """Every waiting clip; a line that fails costs no other."""
    for job in jobs.waiting:
        part = job.output.with_name(f"{job.output.stem}.part.mp4")  # so that a clip that exists is whole
        with jobs.catching(job.line):
            request = job.request()
            with _progress_bar(f"line {job.line}") as progress:
                clip = pipeline(request, progress)
            _save_clip(clip, part, scale, job.output.with_suffix(".png") if plot else None, request.prompt)
            part.replace(job.output)
            for note in clip.notes:
                print(f"line {job.line}: note: {note}")
            print(f"line {job.line}: {job.output}, seed {request.seed}")


def _check_seconds(option: str, seconds: float | None) -> None:
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueError(f"{option} is {seconds:g}, but must be a number above 0.")


def _measure(frames, fps, samples, sample_rate: int, plot: Path | None, title: str) -> SyncReport:
    from .evaluation.plot import sync_plot
    from .evaluation.sync import measure

    report = measure(frames, fps, samples, sample_rate)
    if plot is not None:
        sync_plot(report, frames, samples, sample_rate, title).save(plot)
    return report


@contextmanager
def _progress_bar(title: str = "sampling") -> Iterator[Callable[[int, int], None]]:
    from tqdm import tqdm

    with tqdm(desc=title, unit="step", leave=False) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update


def _times(events: tuple[float, ...]) -> str:
    shown = ", ".join(f"{seconds:.2f}" for seconds in events[:20])
    return f"{shown}{', ...' if len(events) > 20 else ''} s" if events else "no time"
