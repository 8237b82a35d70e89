"""`harmony bench`: every claim of the README as a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .command_options import Device, Dtype, Json, Model, load_pipeline

bench = typer.Typer(help="Measure quality and speed on this machine.", no_args_is_help=True)


@bench.command()
def sampling(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV to append to.")] = None,
    repeats: Annotated[int, typer.Option(help="Timed runs of each task.")] = 5,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; default: the model's.")] = None,
    model: Model = "harmony-tiny",
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Time every task."""
    from .evaluation.bench import append_csv, time_tasks
    from .media import prepare_output

    if output is not None:
        prepare_output(output)
    rows = time_tasks(load_pipeline(model, device, dtype), repeats=repeats, steps=steps)
    for row in rows:
        print(f"{row['task']:16} {row['seconds_p50']:8.2f} s  ({row['seconds_p20']:.2f} to {row['seconds_p80']:.2f})")
    if output is not None:
        append_csv(output, rows)
        print(output)


@bench.command()
def quality(
    cases: Annotated[list[str] | None, typer.Argument(help="Which cases; default: all.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV to write.")] = None,
    clips: Annotated[int, typer.Option(help="Held-out scenes, balls and faces in turn.")] = 144,
    batch: Annotated[int, typer.Option(help="Clips generated together.")] = 16,
    merge: Annotated[list[Path] | None, typer.Option(help="CSV of an earlier part of the same bench.")] = None,
    model: Model = "harmony-tiny",
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Score a checkpoint on held-out scenes of the toy world: sync, obedience, voices."""
    from tqdm import tqdm

    from .evaluation.quality import CASES, markdown, read_rows, run_cases, summary, write_rows
    from .media import prepare_output

    if output is not None:
        prepare_output(output)
    rows = read_rows(merge or [])
    with tqdm(unit="clip") as bar:

        def progress(case: str, done: int, total: int) -> None:
            bar.set_description(case)
            bar.total = total
            bar.update(done - bar.n)

        rows += run_cases(load_pipeline(model, device, dtype), cases or list(CASES), clips, batch, progress)
    if output is not None:
        write_rows(output, rows)
    table = summary(rows)
    print(json.dumps(table) if as_json else markdown(table))
