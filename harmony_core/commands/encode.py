"""`harmony encode`: a file through a checkpoint's autoencoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .clips import write_clip
from .options import (
    AudioTrack,
    Device,
    Dtype,
    Model,
    Overwrite,
    PipelineOptions,
    check_seconds,
    check_suffix,
    read_config,
    say,
)


def encode(
    file: Annotated[Path, typer.Argument(help="Video with sound.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Latents to write (.safetensors).")],
    preview: Annotated[Path | None, typer.Option(help="MP4 of the latents decoded again.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Read no more than this of the file.")] = None,
    model: Model = "harmony-tiny",
    device: Device = "auto",
    dtype: Dtype = "float32",
    audio_track: AudioTrack = None,
    overwrite: Overwrite = False,
) -> None:
    """Encode a file with a checkpoint's autoencoders, and look at what they keep."""
    from ..checkpoints.write import write_safetensors
    from ..diffusion.latents import AVLatents
    from ..media import fit_audio, fit_video, read_audio, read_video
    from ..outputs import check_overwrites, prepare_output
    from ..pipelines import GenerateRequest

    check_seconds("--seconds", seconds)
    check_suffix("-o", output, ".safetensors")
    check_suffix("--preview", preview, ".mp4")
    check_overwrites({"-o": output, "--preview": preview}, [file, Path(model)], overwrite)
    for path in (output, preview):
        if path is not None:
            prepare_output(path)
    config = read_config(model)
    video = read_video(file, seconds=seconds, short_side=max(config.width, config.height))
    audio = read_audio(file, seconds=seconds, track=audio_track)
    pipeline = PipelineOptions(model, device=device, dtype=dtype).load()
    geometry = pipeline.geometry(GenerateRequest(prompt="", video=video))
    frames, video_notes = fit_video(video, geometry)
    samples, audio_notes = fit_audio(audio, geometry.num_samples, geometry.sample_rate)
    pictures, sound = pipeline.encode_video(frames), pipeline.encode_audio(samples, geometry.num_audio_latents)
    facts = {"fps": str(geometry.fps), "sample_rate": str(geometry.sample_rate), "model": model}
    write_safetensors(output, {"video": pictures, "audio": sound}, facts)
    if preview is not None:
        decoded_frames, decoded_samples = pipeline.decode(AVLatents(pictures, sound), geometry)
        write_clip(preview, decoded_frames, geometry.fps, decoded_samples, geometry.sample_rate)
    for note in (*geometry.snapped, *video_notes, *audio_notes):
        say(f"note: {note}")
    print(f"{output}: video {list(pictures.shape)}, audio {list(sound.shape)}")
