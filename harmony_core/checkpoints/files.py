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
from .layout import MARKERS, KeyMap, check_keys, config_from_shapes, recognise, split_scales

Paths = str | Path | Sequence[str | Path]

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
PIECE = 256 * 2**20
CONFIG_KEY, QUANT_KEY = "harmony_config", ".comfy_quant"
FP8_FORMATS = ("float8_e4m3fn", "float8_e5m2")
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
class WeightFiles:
    """One or more safetensors files seen as one: their entries, and what a Harmony file says of itself.

    `handles` are the files as `open_files` opened them; reading goes on from there.
    """

    name: str
    entries: dict[str, Entry]
    settings: dict[str, Any] | None
    metadata: dict[str, str]
    handles: dict[Path, Any] = field(repr=False)

    @property
    def config(self) -> HarmonyConfig | None:
        """The transformer's, where a Harmony file stores it."""
        return None if self.settings is None else HarmonyConfig.from_dict(self.settings["transformer"])


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
            shapes = {target: files.entries[source].shape for target, source in keys.sources.items()}
            config = config_from_shapes(shapes, keys.layout, files.name, head_dim, preset)
        return cls(files, keys, config)

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
    shapes = {target: files.entries[source].shape for target, source in keys.sources.items()}
    check_keys({key: tuple(value.shape) for key, value in video.items()}, shapes, files.name, "the video branch")
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
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    shapes = {target: files.entries[source].shape for target, source in sources.items()}
    check_keys(expected, shapes, files.name, title)
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
    """
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
                    tensor = _convert(tensor, file, scale, dtype)
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


def _convert(tensor: Tensor, file: safe_open, scale: Entry | None, dtype: torch.dtype | None) -> Tensor:
    """A copy in `dtype` that does not hold on to the file."""
    if scale is None:
        return tensor.to(dtype if dtype and tensor.is_floating_point() else tensor.dtype, copy=True)
    factor = file.get_tensor(scale.key).to(tensor.device).float()
    if factor.numel() not in (1, len(tensor)):
        raise CheckpointError(
            f"{scale.path.name}: {scale.key} has {factor.numel()} values for {len(tensor)} rows; only one scale per "
            "tensor or per row is supported."
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
        _check_quantisation(file, keys, path)
        for key in keys:
            if key.endswith(MARKERS):
                continue
            if key in entries:
                raise CheckpointError(f"{key} is in both {entries[key].path.name} and {path.name}; give one.")
            view = file.get_slice(key)
            entries[key] = Entry(path, key, tuple(view.get_shape()), view.get_dtype())
    return replace(found, settings=settings)


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
        CheckpointError: it is no JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{name} is no JSON ({error}).") from error


def stored_settings(file: safe_open, keys: list[str], name: str) -> dict | None:
    """What a Harmony file says about itself, in its metadata or in a tensor; None for what others write there.

    Raises:
        CheckpointError: its transformer is described as ours are, but cannot be.
    """
    texts = [(file.metadata() or {}).get("config", "")]
    texts += [_stored_bytes(file, key) for key in keys if key.endswith(CONFIG_KEY)]
    for text in texts:
        try:
            settings = json.loads(text)
        except ValueError:
            continue
        transformer = settings.get("transformer") if isinstance(settings, dict) else None
        if isinstance(transformer, dict) and set(transformer) >= REQUIRED:
            try:
                HarmonyConfig.from_dict(transformer)
            except ValueError as error:
                raise CheckpointError(f"{name} holds settings that this version cannot read: {error}") from error
            return settings
    return None


def _stored_bytes(file: safe_open, key: str) -> bytes:
    """A text that is kept as a tensor."""
    return bytes(file.get_tensor(key).flatten().view(torch.uint8).tolist())


def _check_quantisation(file: safe_open, keys: list[str], path: Path) -> None:
    for key in keys:
        if key.endswith(QUANT_KEY):
            settings = parse_json(_stored_bytes(file, key), f"{path.name}: {key}")
            form = settings.get("format") if isinstance(settings, dict) else settings
            if form not in FP8_FORMATS:
                raise CheckpointError(
                    f"{path.name} holds {key.removesuffix(QUANT_KEY)} as {form}, which is not supported; use a file in "
                    f"bf16, fp16, fp32, or {' or '.join(FP8_FORMATS)}."
                )


def plain_sources(files: WeightFiles, prefix: str = "") -> tuple[dict[str, str], dict[str, str]]:
    """(weights, scales) of a file by their own names, those under `prefix` alone and without it."""
    names = {key.removeprefix(prefix): key for key in files.entries if key.startswith(prefix)}
    weights, scales = split_scales(names, files.name)
    return {key: names[key] for key in weights}, {key: names[scale] for key, scale in scales.items()}
