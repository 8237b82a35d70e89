"""`harmony convert`: the only command that reads pickled weight files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Overwrite


def convert(
    sources: Annotated[list[Path], typer.Argument(help=".pth, .pt, .ckpt, .bin or .safetensors files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help=".safetensors file to write.")],
    kind: Annotated[
        str,
        typer.Option(
            help="weights: the same tensors; mmaudio: for ComfyUI's VAELoader; ovi, ovi-960, dreamid-omni: that "
            "model in Harmony's layout."
        ),
    ] = "weights",
    overwrite: Overwrite = False,
) -> None:
    """Turn pickled or foreign weight files into safetensors."""
    from ..checkpoints.convert import convert as write
    from ..outputs import check_overwrites, prepare_output

    check_overwrites({"-o": output}, sources, overwrite)
    prepare_output(output)
    keys = write(sources, output, kind)
    print(f"{output}: {len(keys)} tensors")
