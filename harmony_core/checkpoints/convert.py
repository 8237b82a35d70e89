"""Pickled weights to safetensors, and published weights to the files that ComfyUI or Harmony read.

The only place that reads pickles, and only as tensors (`weights_only=True`), which cannot run code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..autoencoders.audio import MelConverter
from ..presets import PRESETS
from .bundle import transformer_tensors
from .errors import CheckpointError
from .files import open_model, read_tensors
from .parts import MEL_VOCODER, audio_config, audio_tensors, check_audio_tensors, is_mel_vocoder, mel_codec_of
from .weight_files import DTYPES, PICKLES, open_files, plain_sources
from .write import write_safetensors

WRAPPERS = ("generator", "state_dict", "model", "module")  # keys under which training code nests weights


def convert(sources: Path | Sequence[Path], target: Path, kind: str, dtype: torch.dtype | None = None) -> list[str]:
    """Write `target` (.safetensors) from weight files.

    Args:
        sources: .pth, .pt, .ckpt, .bin or safetensors files; an index of shards; a folder with one of these.
        kind: `weights`: the same tensors; `mmaudio`: MMAudio's 16 kHz autoencoder and vocoder to the one file that
            ComfyUI's VAELoader reads; `ovi`, `ovi-960`, `dreamid-omni`: that model, in one file or two, to Harmony's
            layout with its config (their keys are the same, so the file alone does not tell which it is);
            `uniavgen-vocoder`: UniAVGen's vocoder, checked.
        dtype: of floating-point weights; None keeps theirs.

    Returns:
        The keys written.

    Raises:
        CheckpointError: a wrong kind, suffix or file, or keys that do not fit the kind.
    """
    sources = [sources] if isinstance(sources, Path) else list(sources)
    if kind not in CONVERSIONS:
        raise CheckpointError(f"Unknown conversion {kind!r}. Conversions: {', '.join(CONVERSIONS)}.")
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target.name} must end in .safetensors, for example {target.stem}.safetensors.")
    if target.resolve() in [source.resolve() for source in sources]:
        raise CheckpointError(f"{target.name} is also the source; write to another file.")
    tensors, metadata = CONVERSIONS[kind](sources, dtype)
    write_safetensors(target, tensors, metadata)
    return sorted(tensors)


def _weights(sources: Sequence[Path], dtype: torch.dtype | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = read_any(sources)
    if dtype is not None:
        tensors = {key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()}
    return tensors, {}


def _mmaudio(sources: Sequence[Path], dtype: torch.dtype | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    name = " + ".join(source.name for source in sources)
    tensors = audio_tensors(read_any(sources), name)
    config = audio_config({key: tuple(value.shape) for key, value in tensors.items()}, name)
    converter = MelConverter(config["num_mels"]).state_dict()
    tensors = {**{"mel_converter." + key: value for key, value in converter.items()}, **tensors}
    keep = ("mel_converter.", "vae.data_")
    if dtype is not None:
        tensors = {key: value if key.startswith(keep) else value.to(dtype) for key, value in tensors.items()}
    check_audio_tensors(tensors, config, name)
    return tensors, {}


def _mel_vocoder(sources: Sequence[Path], dtype: torch.dtype | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, metadata = _weights(sources, dtype)
    name = " + ".join(source.name for source in sources)
    if not is_mel_vocoder(tensors):
        raise CheckpointError(f"{name} is not {MEL_VOCODER}; give code2wav_bigvgan_model, or the weights in it.")
    mel_codec_of({key: tuple(value.shape) for key, value in tensors.items()}, name)
    return tensors, metadata


def _ovi(preset: str, sources: Sequence[Path], dtype: torch.dtype | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights stay in the source's own dtype (its first block's), unless asked otherwise; scaled fp8 becomes bf16."""
    opened = open_model(sources, preset=preset)
    files = opened.files
    if dtype is None:
        stored = {DTYPES.get(entry.dtype) for entry in files.entries.values() if len(entry.shape) > 1}
        wide = [each for each in (torch.float32, torch.float16, torch.bfloat16) if each in stored]
        dtype = wide[0] if len(stored) == 1 and wide else torch.bfloat16
    if PRESETS[opened.keys.layout.preset].interaction != "global":
        raise CheckpointError(f"{files.name} is not Ovi: it has no video and audio streams that are fused.")
    return transformer_tensors(opened.config, opened.build(dtype))


Conversion = Callable[[Sequence[Path], torch.dtype | None], tuple[dict[str, Tensor], dict[str, str]]]
CONVERSIONS: Mapping[str, Conversion] = {
    "weights": _weights,
    "mmaudio": _mmaudio,
    "ovi": partial(_ovi, "ovi-11b"),
    "ovi-960": partial(_ovi, "ovi-11b-960"),
    "dreamid-omni": partial(_ovi, "dreamid-omni"),
    "uniavgen-vocoder": _mel_vocoder,
}


def read_any(sources: Sequence[Path]) -> dict[str, Tensor]:
    """Every tensor of pickled or safetensors files.

    Raises:
        CheckpointError: not weights alone, or a tensor in two files.
    """
    tensors: dict[str, Tensor] = {}
    for source in (each for given in sources for each in _unfolded(given)):
        if source.suffix in PICKLES:
            found = read_pickle(source)
        else:
            files = open_files(source)
            found = dict(read_tensors(files, *plain_sources(files), None, "cpu"))
        twice = sorted(set(found) & set(tensors))
        if twice:
            raise CheckpointError(f"{source.name} and an earlier file both have {twice[0]}; give one of them.")
        tensors.update(found)
    return tensors


def _unfolded(source: Path) -> list[Path]:
    """The pickles in a folder that has nothing else to read; all else as it is."""
    if not source.is_dir() or any(source.glob("*.safetensors")):
        return [source]
    return sorted(path for path in source.iterdir() if path.suffix in PICKLES) or [source]


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The state dict in a .pth or .pt file, mapped rather than read where its format allows it.

    Raises:
        CheckpointError: it holds anything but tensors, or cannot be read without running its code.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a file that is no pickle ends its reader in almost any of them
        # torch's own words tell how to run the file's code, which nobody should
        named = re.search(r"Unsupported global: GLOBAL (\S{1,100})", str(error))
        reason = (
            f"it names {named[1]}, which is code"
            if named
            else f"it is not as torch writes them ({type(error).__name__})"
        )
        raise CheckpointError(f"{path.name} cannot be read as weights alone, so it is refused: {reason}.") from error
    while isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
        inner = next((name for name in WRAPPERS if name in found), None)
        if inner is None:
            break
        found = found[inner]
    if not isinstance(found, Mapping) or not found or not all(isinstance(name, str) for name in found):
        raise CheckpointError(f"{path.name} holds no tensors under names.")
    other = [key for key, value in found.items() if not isinstance(value, Tensor)]
    if other:
        raise CheckpointError(f"{path.name} holds more than tensors; the first other entry is {other[0]}.")
    return dict(found)


def _is_zip(path: Path) -> bool:
    """torch's present format, which can be memory-mapped."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
