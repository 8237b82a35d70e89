"""Options that several commands share."""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ..request import SETTINGS, GenerateRequest, Setting

if TYPE_CHECKING:
    import torch

    from ..config import HarmonyConfig
    from ..pipelines import HarmonyPipeline, PartFiles

LONGEST_LINE = 10_000  # characters that a line quotes
DTYPES = ("float32", "bfloat16", "float16")
DRIVER_CACHES = ("auto", "device", "host", "off")

Model = Annotated[str, typer.Option("--model", "-m", help="Name of an embedded checkpoint, or a .safetensors file.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, ... or auto.")]
Dtype = Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")]
AudioModel = Annotated[Path | None, typer.Option(help="Second file of a split transformer (Ovi).")]
VideoVae = Annotated[Path | None, typer.Option(help="Wan2.2's VAE, for a transformer without one.")]
AudioVae = Annotated[
    list[Path] | None, typer.Option(help="MMAudio's autoencoder with its vocoder; twice for a file of each.")
]
TextEncoder = Annotated[Path | None, typer.Option(help="umT5: a file, or its Hugging Face folder.")]
Tokenizer = Annotated[Path | None, typer.Option(help="Folder of umT5's tokeniser.")]
Preset = Annotated[str | None, typer.Option(help="Settings of a file that stores none: ovi-11b-960, dreamid-omni.")]
Lora = Annotated[list[Path] | None, typer.Option(help="A LoRA on the model; several times for several.")]
LoraVideoStrength = Annotated[float, typer.Option(help="Of what LoRAs do to the video. 0 = nothing.")]
LoraAudioStrength = Annotated[float, typer.Option(help="Of what LoRAs do to the sound. 0 = nothing.")]
Offload = Annotated[str, typer.Option(help="Weights on the device: none (all), model (one part), layers (one layer).")]
DriverCache = Annotated[
    str, typer.Option(help="Where what a given stream contributes is kept between steps: auto, device, host or off.")
]
Compile = Annotated[bool, typer.Option("--compile", help="torch.compile the layers; the first step waits for it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
AudioTrack = Annotated[
    int | None, typer.Option(help="Which sound track of a file, from 1; default: the one flagged default.", min=1)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def say(line: str, error: bool = False) -> None:
    """Print a line with what it quotes of files and their names: control characters would be obeyed by a terminal."""
    print(printable(line), file=sys.stderr if error else sys.stdout, flush=True)


def printable(text: str) -> str:
    """On one line that is not endless, characters that show nothing as `?`."""
    line = " ".join(text[: 2 * LONGEST_LINE].split())
    line = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def check_seconds(option: str, seconds: float | None) -> None:
    """Raises ValueError for a length that is none."""
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueError(f"{option} is {seconds:g}, but must be a number above 0.")


def check_suffix(option: str, path: Path | None, suffix: str) -> None:
    """Raises ValueError for an output whose name does not say what it is."""
    if path is not None and path.suffix.lower() != suffix:
        example = path.parent / f"{path.stem or 'harmony'}{suffix}"
        raise ValueError(f"{option} {path} must end in {suffix}, for example {example}.")


@contextmanager
def lack_of_memory_named() -> Iterator[None]:
    """A lack of memory becomes a ValueError with the fix."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch reports it as a RuntimeError
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        raise ValueError("not enough memory; ask for fewer --seconds or a smaller --width and --height.") from error


def find_device(name: str) -> torch.device:
    """`auto` is this process's GPU, else the CPU. Raises ValueError for a device that cannot be used here."""
    import torch

    if name == "auto":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # meta has a device's name and no values
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name} cannot be used here; try cpu. ({str(error).splitlines()[0]})") from error
    return device


@dataclass(frozen=True)
class PipelineOptions:
    """Which weights, and how they run: the options of every command that makes clips from any kind of file."""

    model: Model = "harmony-tiny"
    audio_model: AudioModel = None
    video_vae: VideoVae = None
    audio_vae: AudioVae = None
    text_encoder: TextEncoder = None
    tokenizer: Tokenizer = None
    preset: Preset = None
    lora: Lora = None
    lora_video_strength: LoraVideoStrength = 1.0
    lora_audio_strength: LoraAudioStrength = 1.0
    offload: Offload = "none"
    driver_cache: DriverCache = "auto"
    compile_layers: Compile = False
    device: Device = "auto"
    dtype: Dtype = "float32"

    @property
    def files(self) -> list[Path]:
        """Every file that is named, an embedded checkpoint's own name aside."""
        paths = [self.audio_model, self.video_vae, *(self.audio_vae or []), self.text_encoder, self.tokenizer]
        paths += self.lora or []
        return [Path(self.model), *(path for path in paths if path is not None)]

    def weights(self) -> list[Path]:
        """Files and folders that clips are made with. Raises CheckpointError for a model that is none."""
        from ..checkpoints import embedded_checkpoints, resolve

        for path in self.lora or []:
            if not path.is_file():
                raise ValueError(f"--lora {path} is missing; give a .safetensors file.")
        named = self.files
        if self.model in embedded_checkpoints() or not named[0].is_dir():
            named[0] = resolve(self.model)
        return named

    def config(self) -> HarmonyConfig:
        return read_config(self.model, self.audio_model, self.preset)

    def load(self) -> HarmonyPipeline:
        """The pipeline that is named: a bundle, or published files as soon as one is given beside the model.

        Raises:
            ValueError: an unknown dtype, offload or driver cache, a device that cannot be used, layers that are to be
                compiled and offloaded; CheckpointError for a wrong file.
        """
        import torch

        from ..checkpoints import load_bundle
        from ..checkpoints.lora import apply_lora
        from ..checkpoints.parts import load_parts
        from ..model.compile import compile_layers
        from ..pipelines import HarmonyPipeline

        for name in ("lora_video_strength", "lora_audio_strength"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}, but must be a number.")
        if self.dtype not in DTYPES:
            raise ValueError(f"--dtype is {self.dtype!r}, but must be one of {', '.join(DTYPES)}.")
        if self.driver_cache not in DRIVER_CACHES:
            raise ValueError(f"--driver-cache is {self.driver_cache!r}, but must be one of {', '.join(DRIVER_CACHES)}.")
        if self.compile_layers and self.offload == "layers":
            raise ValueError("--compile needs the layers on the device; leave it out, or take --offload model.")
        driver_cache = None if self.driver_cache == "auto" else self.driver_cache
        device, dtype, parts = find_device(self.device), getattr(torch, self.dtype), self._parts()
        bundle = load_bundle(self.model, dtype) if parts is None else load_parts(parts, dtype)
        for path in self.lora or []:
            apply_lora(bundle.transformer, path, self.lora_video_strength, self.lora_audio_strength)
        pipeline = HarmonyPipeline(bundle, device, self.offload, driver_cache)
        if self.compile_layers:
            compile_layers(pipeline.transformer)
        return pipeline

    def _parts(self) -> PartFiles | None:
        """Published files, a part each; None if the model stands alone."""
        from ..pipelines import PartFiles

        model = Path(self.model)
        parts = PartFiles(
            model=[model] if self.audio_model is None else [model, self.audio_model],
            video_vae=self.video_vae,
            audio_vae=self.audio_vae or (),
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            preset=self.preset or None,
        )
        return None if parts == PartFiles(model=[model]) else parts


def from_fields(*classes: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes `command(*values)` a command of typer: its options are the fields of dataclasses, `values` one of each.

    A field's annotation is its option; those of `GenerateRequest` are made from its settings, and come as a dictionary.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        groups = [_parameters(cls) for cls in classes]

        def run(**options: Any) -> None:
            values = [{parameter.name: options[parameter.name] for parameter in group} for group in groups]
            made = [each if cls is GenerateRequest else cls(**each) for cls, each in zip(classes, values, strict=True)]
            command(*made)

        parameters = [parameter for group in groups for parameter in group]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _parameters(cls: type) -> list[inspect.Parameter]:
    if cls is GenerateRequest:
        return [_request_parameter(item, item.metadata["setting"]) for item in fields(cls) if item.name in SETTINGS]
    hints = get_type_hints(cls, include_extras=True)
    return [_parameter(item.name, hints[item.name], item.default) for item in fields(cls)]


def _request_parameter(item: Field, setting: Setting) -> inspect.Parameter:
    """A setting as an option: None leaves it to the checkpoint."""
    if item.name == "prompt":
        return _parameter(item.name, Annotated[str | None, typer.Argument(help=setting.help)], None)
    if item.name == "reference_images":  # one a time
        option = typer.Option("--reference-image", help=setting.help)
        return _parameter(item.name, Annotated[list[Path] | None, option], None)
    written = str if setting.kind is Fraction else setting.kind
    kind = written | None if item.default is None else written
    return _parameter(item.name, Annotated[kind, typer.Option(help=setting.help)], item.default)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def read_config(model: str, audio_model: Path | None = None, preset: str | None = None) -> HarmonyConfig:
    """The config of what `PipelineOptions.load` would load, without its weights. Raises CheckpointError."""
    from ..checkpoints import embedded_checkpoints, resolve
    from ..checkpoints.files import ModelFile
    from ..checkpoints.weight_files import open_files
    from ..presets import preset as preset_config

    if preset is not None:
        return preset_config(preset)
    is_folder = Path(model).is_dir() and model not in embedded_checkpoints()
    first = Path(model) if is_folder else resolve(model)
    files = open_files([first] if audio_model is None else [first, audio_model])
    return files.config or ModelFile.of(files).config
