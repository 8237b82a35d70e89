"""Reading weight files of any known layout without holding them twice.

The model is built without storage, and its parameters become the file's own tensors: memory-mapped where they already
have the wanted dtype on the CPU, else converted one by one while the mapping is let go every `PIECE` bytes.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..config import REQUIRED, HarmonyConfig
from ..model import HarmonyTransformer
from .errors import CheckpointError
from .layout import (
    PADDED,
    PREFIXES,
    QUANT_KEY,
    KeyMap,
    check_keys,
    config_from_shapes,
    padded,
    recognise,
    split_scales,
    unpacked,
    weight_keys,
)

Paths = str | Path | Sequence[str | Path]

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
PIECE = 256 * 2**20
CONFIG_KEY = "harmony_config"
MAX_TEXT = 2**20  # bytes of a text that is kept as a tensor
QUANT_METADATA = "_quantization_metadata"  # where a file may say the same of all its layers
FP8_FORMATS = ("float8_e4m3fn", "float8_e5m2")  # weights times a scale: all that is computed with here
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


@dataclass(frozen=True)
class ModelFile:
    """A transformer in weight files: its keys under our names, and its config."""

    files: WeightFiles
    keys: KeyMap
    config: HarmonyConfig

    @classmethod
    def of(
        cls,
        files: WeightFiles,
        config: HarmonyConfig | None = None,
        head_dim: int = 128,
        preset: str | None = None,
    ) -> ModelFile:
        """What the files are, by their keys. As `open_model`."""
        keys = recognise(files.entries, files.name)
        config = config or files.config
        if config is None:
            config = config_from_shapes(files.shapes(keys.sources), keys.layout, files.name, head_dim, preset)
        return cls(files, keys, config)

    def check(self) -> None:
        """Compare every shape with the model's, without reading weights. Formats may pad to whole tiles.

        Raises:
            CheckpointError: keys that are missing or too many, or shapes that are not the model's.
        """
        expected = HarmonyTransformer(self.config, device="meta").state_dict()
        shapes = self.files.shapes(self.keys.sources)
        for target, source in self.keys.sources.items():
            own = tuple(expected[target].shape) if target in expected else ()
            layer = self.files.quantised.get(source.removesuffix(".weight"))
            if layer is not None and layer.form in PADDED and padded(own, layer.form) == shapes[target]:
                shapes[target] = own
        own_shapes = {key: tuple(value.shape) for key, value in expected.items()}
        check_keys(own_shapes, shapes, self.files.name, self.keys.layout.title)

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> HarmonyTransformer:
        """The model in eval mode, without gradients. Raises CheckpointError for keys that do not fit."""
        model = HarmonyTransformer(self.config, device="meta", dtype=dtype)
        assign(model, self.files, self.keys.sources, self.keys.scales, dtype, device, self.keys.layout.title)
        return model


def open_model(
    paths: Paths, config: HarmonyConfig | None = None, head_dim: int = 128, preset: str | None = None
) -> ModelFile:
    """Recognise a transformer of any layout in `layout.LAYOUTS`, without reading its weights.

    Args:
        paths: a .safetensors file, an index.json of shards, a folder with either, or several files (Ovi's two).
        config: the model's, where its shapes do not tell all (toy sizes); else it is what the files store, else what
            their shapes tell.
        head_dim, preset: as `layout.config_from_shapes`, where no config is given or stored.

    Raises:
        CheckpointError: unreadable, unknown, or too little to tell the config.
    """
    return ModelFile.of(open_files(paths), config, head_dim, preset)


def load_transformer(
    paths: Paths,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    config: HarmonyConfig | None = None,
    head_dim: int = 128,
) -> tuple[HarmonyConfig, HarmonyTransformer]:
    """Load a transformer of any layout. Arguments as `open_model`.

    Returns:
        The config, and the model in eval mode, without gradients.

    Raises:
        CheckpointError: unreadable, unknown, or keys that are missing or too many.
    """
    opened = open_model(paths, config, head_dim)
    return opened.config, opened.build(dtype, device)


@torch.no_grad()
def initialize_from_wan(model: HarmonyTransformer, paths: Paths) -> KeyMap:
    """Copy a Wan2.2 checkpoint into the video branch of `model`; audio branch and interactions keep their weights.

    With interactions whose outputs are zero (`model.initialize`) the video side then equals Wan's bit for bit.

    Raises:
        CheckpointError: not Wan's layout, or another size than the model's.
    """
    files = open_files(paths)
    keys = recognise(files.entries, files.name)
    own = model.state_dict()
    video = {key: own[key] for key in own if not key.startswith(("audio.", "interactions.", "speech."))}
    check_weights(video, files, keys.sources, "the video branch")
    for target, tensor in read_tensors(files, keys.sources, keys.scales, None, "cpu"):
        video[target].copy_(tensor)
    return keys


def assign(
    model: nn.Module,
    files: WeightFiles,
    sources: Mapping[str, str],
    scales: Mapping[str, str],
    dtype: torch.dtype | None,
    device: torch.device | str,
    title: str,
) -> None:
    """Give a model its weights, and put it in eval mode without gradients.

    A model on the meta device takes the file's own tensors, so that nothing is held twice; any other copies them into
    its own, whose memory format may be another (channels last).

    Raises:
        CheckpointError: keys or shapes that do not fit.
    """
    check_weights(model.state_dict(), files, sources, title)
    tensors = dict(read_tensors(files, sources, scales, dtype, device))
    model.load_state_dict(tensors, assign=any(parameter.is_meta for parameter in model.parameters()))
    model.eval().requires_grad_(False)


def read_tensors(
    files: WeightFiles,
    sources: Mapping[str, str],
    scales: Mapping[str, str],
    dtype: torch.dtype | None,
    device: torch.device | str,
) -> Iterator[tuple[str, Tensor]]:
    """(our key, tensor) on `device`, fp8 weights multiplied by their scales.

    Args:
        dtype: of floating-point tensors; None = as stored.

    Raises:
        CheckpointError: a layer in a format that is not computed with here.
    """
    check_computable(files, sources)
    by_file: dict[Path, list[tuple[str, Entry]]] = defaultdict(list)
    for target, source in sources.items():
        by_file[files.entries[source].path].append((target, files.entries[source]))
    for path, wanted in by_file.items():
        keep = not scales and (dtype is None or all(DTYPES.get(entry.dtype) == dtype for _, entry in wanted))
        for index, piece in enumerate([wanted] if keep else _pieces(wanted)):
            if index > 0:
                files.handles[path] = open_safetensors(path)  # lets go of what the last piece has mapped
            file = files.handles[path]
            for target, entry in piece:
                tensor = file.get_tensor(entry.key).to(device)
                if not keep:
                    scale = files.entries[scales[target]] if target in scales else None
                    tensor = _convert(tensor, files, scale, dtype)
                yield target, tensor


def _pieces(wanted: list[tuple[str, Entry]]) -> Iterator[list[tuple[str, Entry]]]:
    """Runs of about `PIECE` bytes."""
    piece, size = [], 0
    for item in wanted:
        piece.append(item)
        size += item[1].num_bytes
        if size >= PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def check_weights(expected: Mapping[str, Tensor], files: WeightFiles, sources: Mapping[str, str], title: str) -> None:
    """Every weight of a model there, none too many, in numbers that it computes with and of its shape.

    Raises:
        CheckpointError: names the first that are not, and `title`.
    """
    check_computable(files, sources)
    check_keys({key: tuple(value.shape) for key, value in expected.items()}, files.shapes(sources), files.name, title)
    for target, source in sources.items():
        entry = files.entries[source]
        if expected[target].is_floating_point() and entry.dtype not in DTYPES:
            raise CheckpointError(
                f"{entry.path.name} holds {source} as {entry.dtype}, but weights must be one of {', '.join(DTYPES)}."
            )


def check_computable(files: WeightFiles, sources: Mapping[str, str]) -> None:
    """Raises CheckpointError for the first of these layers in a format that ComfyUI alone computes with."""
    wanted = set(sources.values())
    for name, layer in files.quantised.items():
        if layer.form not in FP8_FORMATS and f"{name}.weight" in wanted:
            raise CheckpointError(
                f"{layer.path.name} holds {name} as {layer.form}, which is not supported outside ComfyUI; load it "
                f"there with Harmony Model Loader, or use a file in bf16, fp16, fp32, or {' or '.join(FP8_FORMATS)}."
            )


def _convert(tensor: Tensor, files: WeightFiles, scale: Entry | None, dtype: torch.dtype | None) -> Tensor:
    """A copy in `dtype` that does not hold on to the file."""
    if scale is None:
        return tensor.to(dtype if dtype and tensor.is_floating_point() else tensor.dtype, copy=True)
    factor = files.handles[scale.path].get_tensor(scale.key).to(tensor.device).float()
    if tensor.ndim == 0 or factor.numel() not in (1, len(tensor)):
        raise CheckpointError(
            f"{scale.path.name}: {scale.key} has {factor.numel()} values for a weight of shape {list(tensor.shape)}; "
            "only one scale per tensor or per row is supported."
        )
    factor = factor.reshape(-1, *[1] * (tensor.ndim - 1)) if factor.numel() > 1 else factor.reshape(())
    return (tensor.float() * factor).to(dtype or torch.bfloat16)


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
        keys = list(file.keys())
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
        raise CheckpointError(f"{name} names shards that are not beside it: {', '.join(missing)}.")


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
        raise CheckpointError(f"There is no file {path}.")
    if path.suffix == ".json":
        index = parse_json(path.read_bytes(), f"{path.name} is no index of safetensors shards: it")
        names = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
            raise CheckpointError(f"{path.name} is no index of safetensors shards: it has no weight_map of file names.")
        shards = [path.parent / name for name in sorted(set(names.values()))]
        _require_shards(path.name, shards)
        return shards
    return [path]


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
        raise CheckpointError(f"{path.name} cannot be read as safetensors: {error}.") from error


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
                f"{path.name}: how {layer} is quantised is said as {str(settings)[:60]}, which names no format."
            )
        found[layer] = Quantised(path, form, settings)
    return found


def plain_sources(files: WeightFiles, prefix: str = "") -> tuple[dict[str, str], dict[str, str]]:
    """(weights, scales) of a file by their own names, those under `prefix` alone and without it."""
    names = {key.removeprefix(prefix): key for key in files.entries if key.startswith(prefix)}
    weights, scales = split_scales(names, files.name)
    return {key: names[key] for key in weights}, {key: names[scale] for key, scale in scales.items()}
