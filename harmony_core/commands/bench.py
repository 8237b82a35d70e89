"""`harmony bench`: every claim of the README as a command."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    Device,
    Dtype,
    Json,
    Model,
    Overwrite,
    PipelineOptions,
    check_seconds,
    check_suffix,
    find_device,
    say,
)

if TYPE_CHECKING:
    from PIL import Image

    from ..benchmarks.charts import Curves

bench = typer.Typer(help="Measure quality and speed on this machine.", no_args_is_help=True)


Output = Annotated[Path | None, typer.Option("--output", "-o", help="CSV to append to.")]
Quick = Annotated[bool, typer.Option("--quick", help="Under a minute: fewer shapes and rounds.")]
Repeats = Annotated[int, typer.Option(help="Timed rounds; the ways take turns.")]


def report(rows: list[dict], lines: list[dict], output: Path | None, as_json: bool) -> None:
    """Comparisons to the terminal and a CSV of their own, NAME_ratios.csv; rows to the CSV."""
    from ..benchmarks.timing import MACHINE, append_csv

    for line in lines:
        text = "{name:36} ours {ours:<12g} peer {peer:<12g} {unit:8} ratio {ratio:g}"
        print(json.dumps(line) if as_json else text.format(**line))
    if output is not None:
        append_csv(output, rows)
        where = {name: rows[0][name] for name in MACHINE}
        append_csv(output.with_stem(f"{output.stem}_ratios"), [line | where for line in lines])


@bench.command()
def ops(
    output: Output = None,
    repeats: Repeats = 5,
    quick: Quick = False,
    heads: Annotated[int | None, typer.Option(help="Default: 1 on CPU, 24 elsewhere.")] = None,
    head_dim: Annotated[int | None, typer.Option(help="Default: 32 on CPU, 128 elsewhere.")] = None,
    memory_gb: Annotated[float, typer.Option(help="Leave out ways that need more.")] = 4.0,
    length: Annotated[list[float] | None, typer.Option(help="Seconds of a clip; may be repeated.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Frame-wise attention and fused norm with RoPE, beside other ways to do the same."""
    from ..benchmarks.ops import OpsOptions, bench_ops, comparisons
    from ..outputs import prepare_output

    if output is not None:
        prepare_output(output)
    place = find_device(device)
    wide = place.type != "cpu"
    repeats = min(repeats, 3) if quick else repeats
    rows = bench_ops(
        OpsOptions(
            place,
            heads or (24 if wide else 1),
            head_dim or (128 if wide else 32),
            repeats,
            memory_gb,
            quick,
            tuple(length or ()),
        )
    )
    report(rows, comparisons(rows), output, as_json)


@bench.command()
def model(
    output: Output = None,
    repeats: Repeats = 5,
    quick: Quick = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """The transformer beside diffusers', a SyncCFG step beside joint passes, a driven step beside a joint one."""
    from ..benchmarks.model import ModelOptions, bench_model
    from ..outputs import prepare_output

    if output is not None:
        prepare_output(output)
    rows, lines = bench_model(ModelOptions(find_device(device), 1 if quick else repeats, quick))
    report(rows, lines, output, as_json)


@bench.command()
def sampling(
    output: Output = None,
    repeats: Repeats = 5,
    quick: Quick = False,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; default: the model's.")] = None,
    model: Model = "harmony-tiny",
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Whole generations, task by task."""
    from ..benchmarks.sampling import comparisons, time_tasks
    from ..outputs import prepare_output

    if output is not None:
        prepare_output(output)
    if quick:
        repeats, steps = 1, steps or 4
    rows = time_tasks(PipelineOptions(model, device=device, dtype=dtype).load(), repeats=repeats, steps=steps)
    report(rows, comparisons(rows), output, as_json)


@bench.command()
def plots(
    ops_table: Annotated[Path, typer.Argument(help="CSV of `harmony bench ops`.")],
    model_table: Annotated[Path, typer.Argument(help="CSV of `harmony bench model`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")] = Path("benchmarks"),
    overwrite: Overwrite = False,
) -> None:
    """Draw what `ops` and `model` measured."""
    from ..benchmarks.charts import framewise_curves, growth_curves
    from ..outputs import check_overwrites, prepare_output, whole_file

    measured = ("seconds_p50", "peak_mb")
    attention = _read_table(ops_table, ("op", "mode", "way", "clip_seconds", *measured), "ops")
    passes = _read_table(model_table, ("part", "video_latent", *measured), "model")
    pictures = {}
    for column, name, unit in (("seconds_p50", "seconds", "s"), ("peak_mb", "memory", "MB at the peak")):
        for mode in ("forward", "backward"):
            title, curves = f"Frame-wise attention, {mode}, both directions", framewise_curves(attention, mode, column)
            pictures[f"framewise_{mode}_{name}"] = _draw(ops_table, curves, title, "clip, s", unit)
        curves = growth_curves(passes, column)
        pictures[f"growth_{unit.split()[0].lower()}"] = _draw(
            model_table, curves, "One joint pass", "video tokens", unit
        )
    files = {name: prepare_output(output / f"{name}.png") for name in pictures}
    check_overwrites(files, [], overwrite)
    for name, picture in pictures.items():
        with whole_file(files[name]) as part:
            picture.save(part, "PNG")
        print(files[name])


def _read_table(path: Path, columns: tuple[str, ...], command: str) -> list[dict[str, str]]:
    """Rows of a benchmark. Raises ValueError for another table."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} has no column {missing[0]}; give the CSV of `harmony bench {command}`.")
        return list(reader)


def _draw(table: Path, curves: Curves, title: str, x_name: str, unit: str) -> Image.Image:
    """Curves of a table. Raises ValueError where it has too little for one."""
    from ..benchmarks.charts import log_plot

    curves = {name: points for name, points in curves.items() if points}
    if len({x for points in curves.values() for x, _ in points}) < 2:
        raise ValueError(f"{table} has too few rows for {title!r} in {unit}; measure again without --quick.")
    return log_plot(curves, title, x_name, unit)


@bench.command()
def quality(
    cases: Annotated[list[str] | None, typer.Argument(help="Which cases; default: all.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="CSV to write; its means are in NAME_summary.csv beside it.")
    ] = None,
    overwrite: Overwrite = False,
    clips: Annotated[int, typer.Option(help="Held-out scenes, balls and faces in turn.")] = 144,
    batch: Annotated[int, typer.Option(help="Clips generated together.")] = 16,
    world: Annotated[
        str, typer.Option(help="plain, free_speech, or mixed: half of the one, half of the other.")
    ] = "plain",
    merge: Annotated[list[Path] | None, typer.Option(help="CSV of an earlier part of the same bench.")] = None,
    model: Model = "harmony-tiny",
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Score a checkpoint on held-out scenes of the toy world: sync, obedience, voices."""
    from tqdm import tqdm

    from ..benchmarks.quality import CASES, markdown, read_rows, run_cases, summary, write_rows
    from ..outputs import check_overwrites, prepare_output

    if batch < 1:
        raise ValueError(f"--batch is {batch}, but must be a whole number from 1.")
    means = None if output is None else output.with_name(f"{output.stem}_summary{output.suffix}")
    check_overwrites({"-o": output, "-o's summary": means}, merge or [], overwrite)
    if output is not None:
        prepare_output(output)
    rows = read_rows(merge or [])
    with tqdm(unit="clip") as bar:

        def progress(case: str, done: int, total: int) -> None:
            bar.set_description(case)
            bar.total = total
            bar.update(done - bar.n)

        pipeline = PipelineOptions(model, device=device, dtype=dtype).load()
        rows += run_cases(pipeline, cases or list(CASES), clips, batch, progress, world)
    table = summary(rows)
    if output is not None and means is not None:
        write_rows(output, rows)
        write_rows(means, [{k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()} for line in table])
    print(json.dumps(table) if as_json else markdown(table))


@bench.command()
def ablation(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the runs; those that are there are kept.")],
    row: Annotated[list[str] | None, typer.Option(help="Which rows, once for each; default: the paper's.")] = None,
    seeds: Annotated[int, typer.Option(help="Training seeds of each row.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps of each run.")] = 600,
    batch_size: Annotated[int, typer.Option(help="Clips a step.")] = 16,
    train_clips: Annotated[int, typer.Option(help="Clips that are trained on.")] = 3000,
    scenes: Annotated[int, typer.Option(help="Held-out scenes that are made and scored.")] = 48,
    loss_clips: Annotated[int, typer.Option(help="Held-out clips that losses are taken of.")] = 96,
    branch_steps: Annotated[int, typer.Option(help="Steps that picture and sound are trained apart first.")] = 2000,
    video_steps: Annotated[int, typer.Option(help="Steps that the video autoencoder is trained on first.")] = 600,
    world: Annotated[str, typer.Option(help="hard, or unseen: with a ball outside the picture as well.")] = "hard",
) -> None:
    """Train the method's parts one by one on a hard toy world, and score what each adds."""
    from ..benchmarks.ablation import AblationOptions, run_ablation
    from ..benchmarks.ablation_charts import CLIPS, LOSSES, changes_chart, steps_chart
    from ..benchmarks.ablation_rows import LADDER
    from ..benchmarks.ablation_tables import differences, markdown, summary
    from ..benchmarks.quality import write_rows
    from ..outputs import whole_file

    options = AblationOptions(
        tuple(row or LADDER),
        seeds,
        steps,
        batch_size,
        train_clips,
        scenes,
        loss_clips,
        branch_steps,
        video_steps,
        world,
    )
    rows = run_ablation(output, options, say)
    lines, changes = summary(rows), differences(rows)
    for name, table in (("ablation_clips", rows), ("ablation", lines), ("ablation_changes", changes)):
        if table:
            write_rows(output / f"{name}.csv", table)
    pictures = {
        "ablation": changes_chart(changes, CLIPS, "sampled clips, right is better"),
        "ablation_losses": changes_chart(changes, LOSSES, "held-out losses, left is better"),
        # the first seed alone has states on the way
        "ablation_steps": steps_chart(summary([row for row in rows if int(row["seed"]) == 0])),
    }
    for name, picture in pictures.items():
        with whole_file(output / f"{name}.png") as part:
            picture.save(part, "PNG")
    print(markdown(lines, changes))


@bench.command()
def clips(
    folder: Annotated[Path, typer.Argument(help="Folder of clips, of any model.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="CSV to write; the page is beside it.", show_default="FOLDER.csv"),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="JSON lines with the clips' prompts and transcripts.")] = None,
    syncnet: Annotated[Path | None, typer.Option(help="Folder of syncnet_v2.model and sfd_face.pth (LSE).")] = None,
    whisper: Annotated[Path | None, typer.Option(help="Folder of a Whisper checkpoint of transformers.")] = None,
    scorer: Annotated[
        list[str] | None,
        typer.Option(help="NAME=COMMAND that is given a file and prints a number; desync=... is DeSync."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How much of a clip is read.")] = 60.0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Score a folder of clips, anyone's model: one table, and one HTML page with players and plots."""
    from tqdm import tqdm

    from ..benchmarks.clip_page import write_page
    from ..benchmarks.clip_table import score_folder, write_table
    from ..benchmarks.scorers import ScorerOptions, open_scorers, read_commands
    from ..outputs import check_overwrites, prepare_output

    check_seconds("--seconds", seconds)
    check_suffix("-o", output, ".csv")
    folder = folder.resolve()
    table = output or folder.with_name(f"{folder.name}.csv")
    page = table.with_suffix(".html")
    check_overwrites({"-o": table, "-o's page": page}, [prompts] if prompts else [], overwrite)
    for path in (table, page):
        prepare_output(path)
    options = ScorerOptions(syncnet, whisper, read_commands(scorer or []), find_device(device).type)
    scorers, missing = open_scorers(options)
    for title, reason in missing.items():
        say(f"{title} does not run: {reason}")
    with tqdm(unit="clip", leave=False) as bar:
        rows = score_folder(folder, scorers, prompts, seconds, lambda _: bar.update())
    write_table(table, rows, scorers, missing)
    embedded = write_page(page, folder.name, rows, scorers, missing)
    print(table)
    print(f"{page} ({'the clips are within it' if embedded else 'it needs the clips where they are'})")
