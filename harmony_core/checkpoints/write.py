"""The one way in which weight files are written: whole, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from ..outputs import whole_file
from .errors import CheckpointError
from .weight_files import DTYPES

SAFETENSORS_DTYPES = {dtype: name for name, dtype in DTYPES.items()} | {
    torch.uint8: "U8",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.bool: "BOOL",
}


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write tensor by tensor, so that mapped sources are never in memory as a whole, and replace `path` at the end.

    Raises:
        CheckpointError: a tensor that is not one of plain numbers.
    """
    for key, tensor in tensors.items():
        if tensor.dtype not in SAFETENSORS_DTYPES or tensor.layout != torch.strided or tensor.is_meta:
            kind, layout = (str(each).removeprefix("torch.") for each in (tensor.dtype, tensor.layout))
            raise CheckpointError(
                f"{key} holds {kind} numbers ({layout}, on {tensor.device}), but weight files take stored, dense, real "
                "ones; leave it out."
            )
    order = sorted(tensors, key=lambda key: (-tensors[key].element_size(), key))
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for key in order:
        tensor = tensors[key]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[key] = {
            "dtype": SAFETENSORS_DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    with whole_file(path) as part, part.open("wb") as file:
        _write(file.write, json.dumps(header).encode(), (tensors[key] for key in order))


def _write(write: Callable[[bytes], int], header: bytes, tensors: Iterable[Tensor]) -> None:
    header += b" " * (-len(header) % 8)
    write(len(header).to_bytes(8, "little"))
    write(header)
    for tensor in tensors:
        if tensor.numel():
            write(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
