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
    plan: Annotated[bool, typer.Option("--plan", help="Print what the run would take, and do nothing.")] = False,
    processes: Annotated[int, typer.Option(help="Of --plan: processes that share a batch.", min=1)] = 1,
    sharded: Annotated[
        bool, typer.Option("--sharded", help="Of --plan: they share the weights too (FSDP2, ZeRO-3).")
    ] = False,
    card: Annotated[float | None, typer.Option(help="Of --plan: memory of a card in GiB.")] = None,
) -> None:
    """Train a model as a config says: from nothing, from published weights, all of it or a LoRA."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # tells every file of every state
    shipped = Path(__file__).parents[1] / "training" / "configs"
    path = shipped / f"{config}.yaml" if (shipped / f"{config}.yaml").is_file() else Path(config)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in shipped.glob("*.yaml")))
        raise ValueError(f"There is no training config {config}; give a YAML file or one of: {names}.")
    if plan:
        _print_plan(path, overrides or [], processes, sharded, card)
        return
    from ..training.run_folder import SETTINGS
    from ..training.trainer import run

    if resume and not (output / SETTINGS).is_file():
        raise ValueError(f"{output} holds no run to continue; name its folder with -o, or leave out --resume.")
    print(run(path, output, resume, overrides or []))


def _print_plan(path: Path, overrides: list[str], processes: int, sharded: bool, card: float | None) -> None:
    from ..training.config import TrainingConfig
    from ..training.plan import make_plan, stored_clip
    from ..training.tasks import check_batch

    config = TrainingConfig.from_yaml(path, overrides)
    check_batch(config, processes)
    clip = stored_clip(config)
    for line in make_plan(config, clip, processes, sharded).lines(card):
        print(line)
