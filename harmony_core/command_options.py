"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .pipelines import HarmonyPipeline

DTYPES = ("float32", "bfloat16", "float16")

Model = Annotated[str, typer.Option("--model", "-m", help="Name of an embedded checkpoint, or a .safetensors file.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, ... or auto.")]
Dtype = Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load_pipeline(model: str, device: str, dtype: str) -> HarmonyPipeline:
    """The pipeline that the three options name.

    Raises:
        ValueError: an unknown dtype, or a device that cannot be used; CheckpointError for a wrong file.
    """
    import torch

    from .pipelines import HarmonyPipeline

    if dtype not in DTYPES:
        raise ValueError(f"--dtype is {dtype!r}, but must be one of {', '.join(DTYPES)}.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device} cannot be used here; try cpu. ({str(error).splitlines()[0]})") from error
    return HarmonyPipeline.from_file(model, device, getattr(torch, dtype))
