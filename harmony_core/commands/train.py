"""`harmony train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings over the file's: section.name=value.")] = None,
    config: Annotated[str, typer.Option("--config", "-c", help="YAML file, or the name of a shipped one.")] = "tiny",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")] = Path("runs/tiny"),
    resume: Annotated[bool, typer.Option(help="Continue the run in the folder.")] = False,
) -> None:
    """Train autoencoders and transformer as a config says."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # tells every file of every state
    shipped = Path(__file__).parents[1] / "training" / "configs"
    path = shipped / f"{config}.yaml" if (shipped / f"{config}.yaml").is_file() else Path(config)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in shipped.glob("*.yaml")))
        raise ValueError(f"There is no training config {config}; give a YAML file or one of: {names}.")
    from ..training.trainer import run

    print(run(path, output, resume, overrides or []))
