"""`harmony encode`: files through a checkpoint's autoencoders: one to look at, or a data set to train on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .clips import write_clip
from .options import (
    AudioModel,
    AudioTrack,
    AudioVae,
    Device,
    Dtype,
    Model,
    Overwrite,
    PipelineOptions,
    Preset,
    TextEncoder,
    Tokenizer,
    VideoVae,
    check_seconds,
    check_suffix,
    from_fields,
    say,
)

if TYPE_CHECKING:
    from ..training.data.encode import Summary

MANIFESTS = (".jsonl", ".ndjson", ".csv")
LONGEST_WAIT = timedelta(days=30)  # of a process for the others, whose clips may take longer


@dataclass(frozen=True)
class EncodeOptions:
    """What is encoded, and to where."""

    file: Annotated[Path, typer.Argument(help="Video with sound; or a data set: a folder, or a .jsonl or .csv file.")]
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Latents to write (.safetensors); of a data set, a folder.")
    ]
    preview: Annotated[Path | None, typer.Option(help="MP4 of the latents decoded again.")] = None
    seconds: Annotated[
        list[float] | None,
        typer.Option(help="Read no more than this of the file; of a data set, a length of buckets, once for each."),
    ] = None
    size: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT of a data set's buckets, once for each.")] = None
    fps: Annotated[list[str] | None, typer.Option(help="Frame rate of a data set's buckets, once for each.")] = None
    audio_track: AudioTrack = None
    overwrite: Overwrite = False

    def __post_init__(self) -> None:
        for seconds in self.seconds or ():
            check_seconds("--seconds", seconds)

    @property
    def is_dataset(self) -> bool:
        return self.file.is_dir() or self.file.suffix.lower() in MANIFESTS

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [_size(each) for each in self.size or ()]


@dataclass(frozen=True)
class EncoderOptions:
    """Whose autoencoders and text encoder."""

    model: Model = "harmony-tiny"
    audio_model: AudioModel = None
    video_vae: VideoVae = None
    audio_vae: AudioVae = None
    text_encoder: TextEncoder = None
    tokenizer: Tokenizer = None
    preset: Preset = None
    device: Device = "auto"
    dtype: Dtype = "float32"

    def pipeline_options(self) -> PipelineOptions:
        """The transformer stays where it is read from: nothing here runs it."""
        return PipelineOptions(**vars(self), offload="model")


@from_fields(EncodeOptions, EncoderOptions)
def encode(options: EncodeOptions, models: EncoderOptions) -> None:
    """Encode a file with a checkpoint's autoencoders and look at what they keep; or a data set, to train on.

    A data set is a folder of files with a .txt beside each, or a manifest, a row
    a clip: id, video, audio, prompt, audio_prompt, transcript, language, speaker,
    recording, start, end, reference, reference_transcript. A run that was
    stopped goes on, and accelerate launch shares it out. Rows that cannot be
    used are listed in rejected.jsonl; the exit code is then 1.
    """
    if options.is_dataset:
        _encode_dataset(options, models)
    else:
        _encode_file(options, models.pipeline_options())


def _encode_file(options: EncodeOptions, models: PipelineOptions) -> None:
    from ..checkpoints.write import write_safetensors
    from ..diffusion.latents import AVLatents
    from ..media import fit_audio, fit_video, on_frames, read_audio, read_video
    from ..outputs import check_overwrites, prepare_output
    from ..pipelines import GenerateRequest

    file, output, preview = options.file, options.output, options.preview
    if options.size or options.fps or len(options.seconds or ()) > 1:
        raise ValueError(f"--size, --fps and several --seconds are buckets of a data set, but {file} is one file.")
    seconds = options.seconds[0] if options.seconds else None
    check_suffix("-o", output, ".safetensors")
    check_suffix("--preview", preview, ".mp4")
    check_overwrites({"-o": output, "--preview": preview}, [file, *models.files], options.overwrite)
    for path in (output, preview):
        if path is not None:
            prepare_output(path)
    config = models.config()
    video = read_video(file, seconds=seconds, short_side=max(config.width, config.height))
    audio = read_audio(file, seconds=seconds, track=options.audio_track)
    audio = replace(audio, samples=on_frames(video, audio.samples, audio.sample_rate))
    pipeline = models.load()
    geometry = pipeline.geometry(GenerateRequest(prompt="", video=video))
    frames, video_notes = fit_video(video, geometry)
    samples, audio_notes = fit_audio(audio, geometry.num_samples, geometry.sample_rate)
    pictures, sound = pipeline.encode_video(frames), pipeline.encode_audio(samples, geometry.num_audio_latents)
    facts = {"fps": str(geometry.fps), "sample_rate": str(geometry.sample_rate), "model": models.model}
    write_safetensors(output, {"video": pictures, "audio": sound}, facts)
    if preview is not None:
        decoded_frames, decoded_samples = pipeline.decode(AVLatents(pictures, sound), geometry)
        write_clip(preview, decoded_frames, geometry.fps, decoded_samples, geometry.sample_rate)
    for note in (*geometry.snapped, *video_notes, *audio_notes):
        say(f"note: {note}")
    print(f"{output}: video {list(pictures.shape)}, audio {list(sound.shape)}")


def _encode_dataset(options: EncodeOptions, models: EncoderOptions) -> None:
    import torch
    from accelerate import PartialState
    from tqdm import tqdm

    from ..training.data.buckets import Buckets
    from ..training.data.encode import REJECTED, encode_dataset

    if options.preview is not None or options.audio_track is not None or options.overwrite:
        raise ValueError(f"--preview, --audio-track and --overwrite are of one file, but {options.file} is a data set.")
    if options.output.is_file():
        raise ValueError(f"-o {options.output} is a file, but a data set needs a folder.")
    if options.file.is_dir() and options.output.resolve().is_relative_to(options.file.resolve()):
        raise ValueError(f"-o {options.output} lies in {options.file}, whose files are clips; give another folder.")
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)
    pipeline = models.pipeline_options().load()
    seconds = [Fraction(str(each)) for each in options.seconds or ()]
    buckets = Buckets.of(pipeline.config, options.sizes, options.fps or (), seconds)
    with tqdm(desc="encode", mininterval=2.0, disable=not state.is_main_process) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        summary = encode_dataset(options.file, options.output, pipeline, buckets, state, progress)
    state.destroy_process_group()
    if not state.is_main_process:  # a launcher that sees one end with 1 would stop the others
        return
    _print_summary(summary, options.output)
    if summary.rejected:
        say(f"not usable: {summary.rejected} rows; {options.output / REJECTED} says why.", error=True)
        raise typer.Exit(1)


def _print_summary(summary: Summary, output: Path) -> None:
    say(f"{output}: {summary.clips} clips, {summary.hours:.3g} hours")
    for name, count in summary.buckets.items():
        say(f"{name}: {count}")
    said = ", ".join(f"{name} {count}" for name, count in summary.languages.items())
    say(f"languages: {said or 'none'}")
    shares = {"pictures": summary.with_video, "sound": summary.with_sound, "speech": summary.with_speech}
    shares["a speaker"] = summary.with_speaker
    clips = max(summary.clips, 1)
    say(", ".join(f"with {name} {count / clips:.0%}" for name, count in shares.items()))


def _size(text: str) -> tuple[int, int]:
    width, separator, height = text.partition("x")
    if not (separator and width.isdecimal() and height.isdecimal()):
        raise ValueError(f"--size is {text!r}, but must be WIDTHxHEIGHT, for example 1280x704.")
    return int(width), int(height)
