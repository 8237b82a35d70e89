"""`harmony convert`: the only command that reads pickled weight files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Overwrite


def convert(
    sources: Annotated[
        list[Path], typer.Argument(help="Files (.pth, .pt, .ckpt, .bin, .safetensors), an index, or a folder.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help=".safetensors file to write.")],
    kind: Annotated[
        str,
        typer.Option(
            help="weights: the same tensors; mmaudio: for ComfyUI's VAELoader; uniavgen-vocoder: its "
            "code2wav_bigvgan_model as one file; ovi, ovi-960, dreamid-omni: that "
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
