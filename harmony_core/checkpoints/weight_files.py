"""Weight files, opened but unread: their tensors' names and shapes, and what they say of themselves."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..config import REQUIRED, HarmonyConfig
from ..quoting import listed, quoted, shortened
from .errors import CheckpointError
from .layout import PREFIXES, QUANT_KEY, split_scales, unpacked, weight_keys

Paths = str | Path | Sequence[str | Path]

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
CONFIG_KEY = "harmony_config"
MAX_TEXT = 2**20  # bytes of a text that is kept as a tensor
MAX_INDEX = 2**26  # bytes of an index of shards
MAX_KEY = 1000  # characters of a tensor's name
QUANT_METADATA = "_quantization_metadata"  # where a file may say the same of all its layers
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


@dataclass(frozen=True)
class Entry:
    """A tensor in a file, unread."""

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def num_bytes(self) -> int:
        return torch.Size(self.shape).numel() * (DTYPES[self.dtype].itemsize if self.dtype in DTYPES else 1)


@dataclass(frozen=True)
class Quantised:
    """How a file keeps a layer: ComfyUI's name of the format, all that the file says of it, and the tensors that the
    layer has beside its weight."""

    path: Path
    form: str
    settings: dict[str, Any]
    beside: frozenset[str] = frozenset()


@dataclass(frozen=True)
class WeightFiles:
    """One or more safetensors files seen as one: their entries, and what a Harmony file says of itself.

    `handles` are the files as `open_files` opened them; reading goes on from there. `quantised` are the layers (`X` of
    `X.weight`) that are kept in a format of ComfyUI's; what belongs to a format alone is not among the entries.
    """

    name: str
    entries: dict[str, Entry]
    settings: dict[str, Any] | None
    metadata: dict[str, str]
    handles: dict[Path, Any] = field(repr=False)
    quantised: dict[str, Quantised] = field(default_factory=dict)

    @property
    def config(self) -> HarmonyConfig | None:
        """The transformer's, where a Harmony file stores it."""
        return None if self.settings is None else HarmonyConfig.from_dict(self.settings["transformer"])

    def shapes(self, sources: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
        """Of our keys: what the model computes with, however it is stored."""
        return {target: self._shape(source) for target, source in sources.items()}

    def _shape(self, source: str) -> tuple[int, ...]:
        shape, layer = self.entries[source].shape, self.quantised.get(source.removesuffix(".weight"))
        return shape if layer is None or not source.endswith(".weight") else unpacked(shape, layer.form)


def open_files(paths: Paths) -> WeightFiles:
    """Read the headers of one or more files.

    Raises:
        CheckpointError: a pickle, unreadable, a shard missing, or a tensor in two files.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found = WeightFiles(" + ".join(Path(each).name for each in given), {}, None, {}, {})
    settings, entries = None, found.entries
    for path in [shard for each in given for shard in _shards(Path(each))]:
        file = found.handles[path] = open_safetensors(path)
        keys = _keys(file, path.name)
        found.metadata.update(file.metadata() or {})
        settings = stored_settings(file, keys, path.name) or settings
        found.quantised.update(_read_quantisation(file, keys, path))
        for key in keys:
            if key in entries and weight_keys([key]):
                raise CheckpointError(f"{key} is in both {entries[key].path.name} and {path.name}; give one.")
            view = file.get_slice(key)
            entries[key] = Entry(path, key, tuple(view.get_shape()), view.get_dtype())
    weights = {key: entries[key] for key in weight_keys(entries, found.quantised)}
    beside = defaultdict(set)
    for key in entries:
        beside[key.rpartition(".")[0]].add(key.rpartition(".")[2])
    quantised = {
        name: replace(layer, beside=frozenset(beside[name] - {"weight"})) for name, layer in found.quantised.items()
    }
    return replace(found, settings=settings, entries=weights, quantised=quantised)


def _keys(file: Any, name: str) -> list[str]:
    """The tensors of a file. Raises CheckpointError for a name that no message could hold."""
    keys = list(file.keys())
    longest = max(keys, key=len, default="")
    if len(longest) > MAX_KEY:
        raise CheckpointError(
            f"{name} has a tensor whose name is of {len(longest)} characters ({shortened(longest)}), but names have at "
            f"most {MAX_KEY}; it is no weight file of a model."
        )
    return keys


def shard_set(path: Path) -> list[Path]:
    """A shard with all that belong to it, by their numbered names; any other file alone.

    Raises:
        CheckpointError: some are not beside it.
    """
    match = re.fullmatch(r"(.+)-\d{5}-of-(\d{5})(\.\w+)", path.name)
    if match is None:
        return [path]
    stem, count, suffix = match.groups()
    shards = [path.with_name(f"{stem}-{number:05}-of-{count}{suffix}") for number in range(1, int(count) + 1)]
    _require_shards(path.name, shards)
    return shards


def _require_shards(name: str, shards: list[Path]) -> None:
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise CheckpointError(f"{name} names shards that are not beside it: {listed(missing)}.")


def _shards(path: Path) -> list[Path]:
    """The safetensors files that a path stands for."""
    if path.is_dir():
        found = sorted(path.glob("*.safetensors.index.json")) or sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise CheckpointError(
                f"{path.name} is a folder with {len(found)} weight files or indices; name the file to load."
            )
        return _shards(found[0])
    if not path.is_file():
        raise CheckpointError(f"There is no file {path.name} in {path.parent.name or path.parent}.")
    if path.suffix == ".json":
        shards = _read_index(path)
        _require_shards(path.name, shards)
        return shards
    return [path]


def _read_index(path: Path) -> list[Path]:
    """The shards that an index names. Raises CheckpointError for what is none, or names what is not beside it."""
    if path.stat().st_size > MAX_INDEX:
        raise CheckpointError(
            f"{path.name} is no index of safetensors shards: it has {path.stat().st_size} bytes, and an index at most "
            f"{MAX_INDEX}."
        )
    index = parse_json(path.read_bytes(), f"{path.name} is no index of safetensors shards: it")
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{path.name} is no index of safetensors shards: it has no weight_map of file names.")
    shards = sorted(set(names.values()))
    outside = [name for name in shards if PurePosixPath(name).name != name or PureWindowsPath(name).name != name]
    outside += [name for name in shards if len(name) > MAX_KEY or "\0" in name]
    if outside:
        raise CheckpointError(
            f"{path.name} names {quoted(outside[0])} as a shard, but shards lie beside their index, under plain names; "
            "put them there and correct the index."
        )
    return [path.parent / name for name in shards]


def open_safetensors(path: Path) -> Any:
    """A handle on one file.

    Raises:
        CheckpointError: a pickle, or unreadable.
    """
    if path.suffix in PICKLES:
        raise CheckpointError(
            f"{path.name} is a pickle, which can run code when it is read; convert it once with "
            f"`harmony convert {path.name} -o {path.stem}.safetensors` and load that file."
        )
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        said = str(error).replace(str(path), path.name)  # who is told in a browser need not know where it lies
        raise CheckpointError(f"{path.name} cannot be read as safetensors: {shortened(said, 300)}.") from error


def parse_json(text: str | bytes, name: str) -> Any:
    """What a text says; `name` tells whose it is.

    Raises:
        CheckpointError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is no JSON ({error}).") from error


def stored_settings(file: safe_open, keys: list[str], name: str) -> dict | None:
    """What a Harmony file says about itself, in its metadata or in a tensor; None for what others write there.

    Raises:
        CheckpointError: its transformer is described as ours are, but cannot be.
    """
    texts = [(file.metadata() or {}).get("config", "")]
    texts += [_stored_bytes(file, key, name) for key in keys if key.endswith(CONFIG_KEY)]
    for text in texts:
        try:
            settings = json.loads(text)
        except (ValueError, RecursionError):
            continue
        transformer = settings.get("transformer") if isinstance(settings, dict) else None
        if isinstance(transformer, dict) and set(transformer) >= REQUIRED:
            try:
                HarmonyConfig.from_dict(transformer)
            except ValueError as error:
                raise CheckpointError(f"{name} holds settings that this version cannot read: {error}") from error
            return settings
    return None


def _stored_bytes(file: safe_open, key: str, name: str) -> bytes:
    """A text that is kept as a tensor. Raises CheckpointError for one that is too long to be settings."""
    size = torch.Size(file.get_slice(key).get_shape()).numel()
    if size > MAX_TEXT:
        raise CheckpointError(f"{name}: {key} has {size} values, but settings have at most {MAX_TEXT}.")
    return bytes(file.get_tensor(key).flatten().view(torch.uint8).tolist())


def _read_quantisation(file: safe_open, keys: list[str], path: Path) -> dict[str, Quantised]:
    """Layers and how they are kept: a tensor of each tells, or the file's metadata of all.

    Raises:
        CheckpointError: settings that name no format.
    """
    stored: dict[str, Any] = {}
    if QUANT_METADATA in (metadata := file.metadata() or {}):
        whole = parse_json(metadata[QUANT_METADATA], f"{path.name}: its {QUANT_METADATA}")
        layers = whole.get("layers") if isinstance(whole, dict) else None
        if not isinstance(layers, dict):
            raise CheckpointError(f"{path.name}: its {QUANT_METADATA} has no layers.")
        known = set(keys)
        for layer, settings in layers.items():
            place = next((prefix for prefix in ("", *PREFIXES) if f"{prefix}{layer}.weight" in known), "")
            stored[place + layer] = settings
    for key in keys:
        if key.endswith(QUANT_KEY):
            stored[key.removesuffix(QUANT_KEY)] = parse_json(_stored_bytes(file, key, path.name), f"{path.name}: {key}")
    found = {}
    for layer, settings in stored.items():
        form = settings.get("format") if isinstance(settings, dict) else None
        if not isinstance(form, str):
            raise CheckpointError(
                f"{path.name}: how {layer} is quantised is said as {quoted(settings)}, which names no format."
            )
        found[layer] = Quantised(path, form, settings)
    return found


def plain_sources(files: WeightFiles, prefix: str = "") -> tuple[dict[str, str], dict[str, str]]:
    """(weights, scales) of a file by their own names, those under `prefix` alone and without it."""
    names = {key.removeprefix(prefix): key for key in files.entries if key.startswith(prefix)}
    weights, scales = split_scales(names, files.name)
    return {key: names[key] for key in weights}, {key: names[scale] for key, scale in scales.items()}
