"""`harmony info`: what a weight file is."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .options import Json


def info(
    checkpoint: Annotated[str, typer.Argument(help="A .safetensors file or the name of an embedded checkpoint.")],
    memory: Annotated[bool, typer.Option(help="How much device memory it needs; also for a preset's name.")] = False,
    values: Annotated[bool, typer.Option(help="Count values that are no numbers, which reads the whole file.")] = True,
    as_json: Json = False,
) -> None:
    """Print what a weight file is: a checkpoint, or a published transformer, autoencoder, text encoder or LoRA."""
    from ..checkpoints import resolve
    from ..checkpoints.identify import identify
    from ..checkpoints.values import count_not_finite, describe_not_finite
    from ..checkpoints.weight_files import open_files
    from ..config import HarmonyConfig
    from ..pipelines.memory import memory_table
    from ..presets import PRESETS

    if memory and checkpoint in PRESETS:
        print(memory_table(PRESETS[checkpoint]))
        return
    facts = identify(checkpoint)
    if memory:
        if "num_layers" not in facts["config"]:
            raise ValueError(f"--memory is about transformers, but {checkpoint} is: {facts['layout']}.")
        print(memory_table(HarmonyConfig.from_dict(facts["config"])))
        return
    if values:
        facts["values"] = count_not_finite(open_files(resolve(checkpoint)))
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{facts['file']}: {facts['layout']}, {facts['bytes'] / 1e6:.1f} MB")
    print(f"  for: {facts['for']}")
    for name, part in facts["parts"].items():
        dtypes = ", ".join(part["dtypes"])
        print(f"  {name:14} {part['parameters']:>15,} parameters in {part['tensors']} tensors, {dtypes}")
    if values:
        print(f"  values: {describe_not_finite(facts['values'])}")
    for title in ("config", "model_card"):
        print(f"{title.replace('_', ' ')}:")
        for name, value in facts[title].items():
            print(f"  {name:22} {value if isinstance(value, str) else json.dumps(value)}")
