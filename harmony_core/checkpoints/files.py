"""Reading weight files of any known layout without holding them twice.

The model is built without storage, and its parameters become the file's own tensors: memory-mapped where they already
have the wanted dtype on the CPU, else converted one by one while the mapping is let go every `PIECE` bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import HarmonyConfig
from ..model import HarmonyTransformer
from .errors import CheckpointError
from .layout import (
    PADDED,
    KeyMap,
    check_keys,
    padded,
    recognise,
)
from .sizes import config_from_shapes
from .weight_files import DTYPES, Entry, Paths, WeightFiles, open_files, open_safetensors

PIECE = 256 * 2**20
FP8_FORMATS = ("float8_e4m3fn", "float8_e5m2")  # weights times a scale: all that is computed with here


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
        head_dim, preset: as `sizes.config_from_shapes`, where no config is given or stored.

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
