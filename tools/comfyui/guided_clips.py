"""Clips of a user's graph under every guidance, made by a running ComfyUI and scored as `harmony bench clips` does.

FOLDER/BUDGET/WAY/NAME.mp4     the clips
FOLDER/BUDGET/WAY.csv, .html   their scores
FOLDER/made.csv                a row a clip: what it was made with, and the server's seconds
FOLDER/guidance.csv            a row a clip and measure, for the report
FOLDER/graph.json, prompts.jsonl   what all of them were made from
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harmony_core.benchmarks.clip_page import write_page
from harmony_core.benchmarks.clip_table import FACTS, SUFFIXES, measures_of, score_folder, write_table
from harmony_core.benchmarks.guidance import FIELDS, Way
from harmony_core.benchmarks.quality import read_rows, write_rows
from harmony_core.benchmarks.scorers import Scorer
from harmony_core.benchmarks.timing import append_csv
from harmony_core.outputs import whole_file
from harmony_core.pipelines.prompts import parse_line, read_jobs, read_lines

from .client import ComfyClient
from .guided_graph import GuidedGraph, Prompt

FEWEST_STEPS = 2  # LTXVScheduler has no schedule of one
LINE_FIELDS = ("prompt", "audio_prompt", "transcript", "language", "seed")
Line = dict[str, Any]  # `output` (a file name) and what it has of LINE_FIELDS
Key = tuple[str, int, str]  # way, budget, file


def read_prompts(path: Path, folder: Path, limit: int | None) -> list[Line]:
    """The lines of a prompts file, or `limit` of them that are spread evenly over it.

    Raises:
        ValueError: a wrong line, one that asks for more than words and a seed, or two of one seed.
    """
    jobs = read_jobs(path, folder, {}, seed=0, plots=False)
    jobs.raise_errors()
    lines, seeds = [], {}
    for job in jobs.waiting:
        values = {name: value for name, value in job.values.items() if value not in (None, "", [])}
        more = [name for name in values if name not in LINE_FIELDS]
        if more:
            raise ValueError(f"{path} line {job.line} gives {more[0]}, which the graph decides; leave it out.")
        if values["seed"] in seeds:
            raise ValueError(
                f"{path} lines {seeds[values['seed']]} and {job.line} both have seed {values['seed']}, but clips are "
                "told apart by it; give each its own."
            )
        seeds[values["seed"]] = job.line
        lines.append({"output": job.output.name, **values})
    count = len(lines) if limit is None else min(limit, len(lines))
    return [lines[index * len(lines) // count] for index in range(count)]


def keep_settings(folder: Path, graph: Prompt, lines: Sequence[Line]) -> None:
    """Write what the folder's clips are made from. Raises ValueError where some were made from something else."""
    kept, prompts, known = folder / "graph.json", folder / "prompts.jsonl", {}
    if (folder / "made.csv").exists():
        if json.loads(kept.read_text(encoding="utf-8")) != graph:
            raise ValueError(f"The clips in {folder} are of another graph ({kept}); choose another folder with -o.")
        before = (parse_line(text) for _, text in read_lines(prompts, "The clips' prompts"))
        known = {line["output"]: line for line in before}
    for line in lines:
        if known.setdefault(line["output"], line) != line:
            raise ValueError(f"In {prompts} {line['output']} is of another line; choose another folder with -o.")
    with whole_file(kept) as part:
        part.write_text(json.dumps(graph, indent=1), encoding="utf-8")
    with whole_file(prompts) as part:
        part.write_text("".join(json.dumps(line) + "\n" for line in known.values()), encoding="utf-8")


def place_of(folder: Path, way: str, budget: int) -> Path:
    """Where a way's clips of one budget lie."""
    return folder / str(budget) / way.replace(" + ", "+").replace(" ", "_")


def make_clips(
    client: ComfyClient,
    graph: GuidedGraph,
    lines: Sequence[Line],
    ways: Sequence[Way],
    budgets: Sequence[int],
    folder: Path,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, list[str]]:
    """Make the clips that are not there yet, prompt by prompt, so that every way has the same prompts whenever it
    stops. Returns the server's reasons, each with the clips that failed for it; a next run tries them again.

    Before its clips a prompt is run once in few steps, unkept, so that no way's seconds hold its words' encoding.

    Raises:
        ValueError: a budget too small for some way, or a graph that does not run as it stands.
    """
    dearest = max(ways, key=lambda way: way.passes_per_step)
    if min(budgets) < FEWEST_STEPS * dearest.passes_per_step:
        raise ValueError(
            f"The smallest budget is {min(budgets)} passes, but {FEWEST_STEPS} steps of {dearest.name!r} take "
            f"{FEWEST_STEPS * dearest.passes_per_step}; give at least as many."
        )
    wanted = list(_unmade(folder, lines, ways, budgets))
    if wanted:
        try:
            _film(_finished(client, graph.brief(FEWEST_STEPS)))
        except ValueError as error:
            raise ValueError(f"The graph does not run as it stands: {error}") from error
    failures: dict[str, list[str]] = {}
    warm = None
    for number, (line, budget, way) in enumerate(wanted):
        name = f"{line['output']}, {way.name}, {budget} passes"
        progress(name, number, len(wanted))
        try:
            if warm is not line:
                warm = line
                _finished(client, graph.clip(line, way, FEWEST_STEPS))
            _make(client, graph, line, way, budget, folder)
        except ValueError as error:
            failures.setdefault(str(error), []).append(name)
    return failures


def _unmade(
    folder: Path, lines: Sequence[Line], ways: Sequence[Way], budgets: Sequence[int]
) -> Iterator[tuple[Line, int, Way]]:
    made = {key for key, _ in made_rows(folder)}
    for line in lines:
        for budget in budgets:
            for way in ways:
                is_there = (place_of(folder, way.name, budget) / line["output"]).is_file()
                if not is_there or (way.name, budget, line["output"]) not in made:
                    yield line, budget, way


def made_rows(folder: Path) -> list[tuple[Key, dict[str, Any]]]:
    """The rows of made.csv. A clip that was made anew has its last one."""
    path = folder / "made.csv"
    rows = read_rows([path]) if path.exists() else []
    return list({(row["way"], int(row["budget"]), row["file"]): row for row in rows}.items())


def _make(client: ComfyClient, graph: GuidedGraph, line: Line, way: Way, budget: int, folder: Path) -> None:
    """One clip and its row. Raises ValueError with the server's reason."""
    steps = budget // way.passes_per_step
    history = _finished(client, graph.clip(line, way, steps))
    content = client.view(_film(history))
    with whole_file(place_of(folder, way.name, budget) / line["output"]) as part:
        part.write_bytes(content)
    facts = {"way": way.name, "budget": budget, "steps": steps, "passes": steps * way.passes_per_step}
    facts |= {"seed": line["seed"], "file": line["output"], "server_s": _seconds(history, graph.sampler)}
    append_csv(folder / "made.csv", [facts])


def _finished(client: ComfyClient, prompt: Prompt) -> dict[str, Any]:
    """The history of a prompt that ran to its end. Raises ValueError with the server's reason."""
    history = client.wait(client.post("/prompt", {"prompt": prompt})["prompt_id"])
    check_finished(history)
    return history


def check_finished(history: Mapping[str, Any]) -> None:
    """Raises ValueError with the server's reason for a prompt that did not run to its end."""
    for kind, data in history["status"]["messages"]:
        if kind == "execution_error":
            raise ValueError(f"node {data['node_id']} ({data['node_type']}): {data['exception_message'].strip()}")
        if kind == "execution_interrupted":
            raise ValueError("it was interrupted.")


def _film(history: Mapping[str, Any]) -> dict[str, str]:
    """The one film that a prompt saved. Raises ValueError."""
    saved = [item for found in history["outputs"].values() for items in found.values() for item in items]
    films = [
        item
        for item in saved
        if isinstance(item, dict)
        and item.get("type") == "output"
        and Path(item.get("filename", "")).suffix.lower() in SUFFIXES
    ]
    names = ", ".join(item["filename"] for item in films) or "none"
    if len(films) != 1 or not names.lower().endswith(".mp4"):
        raise ValueError(f"One .mp4 must be saved, but the graph saved {names}; leave one Save Video in it.")
    return films[0]


def _seconds(history: Mapping[str, Any], sampler: str) -> float | str:
    """By the server's clock, from start to end; empty where it took the sampling from its cache."""
    messages = dict(history["status"]["messages"])
    if sampler in messages.get("execution_cached", {}).get("nodes", ()):
        return ""
    return round((messages["execution_success"]["timestamp"] - messages["execution_start"]["timestamp"]) / 1000, 3)


def score_clips(
    folder: Path,
    scorers: Sequence[Scorer],
    missing: dict[str, str],
    progress: Callable[[Path], object] = lambda _: None,
) -> Path:
    """Score what is not scored yet, and write guidance.csv. Raises ValueError where no clip was made."""
    made = dict(made_rows(folder))
    if not made:
        raise ValueError(f"{folder} has no clip; make some first (compare_guidance comfyui).")
    rows = []
    for way, budget in dict.fromkeys((way, budget) for way, budget, _ in made):
        place = place_of(folder, way, budget)
        title = f"{way}, {budget} passes"
        for scored in _scored(place, title, folder / "prompts.jsonl", scorers, missing, progress):
            facts = made.get((way, budget, scored["file"]))
            if facts is not None:
                rows += _measured({name: facts[name] for name in FIELDS[:5]}, {**scored, "server_s": facts["server_s"]})
    write_rows(folder / "guidance.csv", rows)
    return folder / "guidance.csv"


def _measured(facts: dict[str, Any], scored: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each cell that holds a number."""
    numbers = {name: cell for name, cell in scored.items() if cell and name not in (*FACTS, "notes", "missing")}
    return [{**facts, "metric": name, "value": cell} for name, cell in numbers.items()]


def _scored(
    place: Path,
    title: str,
    prompts: Path,
    scorers: Sequence[Scorer],
    missing: dict[str, str],
    progress: Callable[[Path], object],
) -> Iterable[dict[str, Any]]:
    """The score table of one folder, as it stands where these scorers have seen every clip in it."""
    table = place.with_name(f"{place.name}.csv")
    if not _is_current(table, place, scorers):
        scored = score_folder(place, scorers, prompts, progress=progress)
        write_table(table, scored, scorers, missing)
        write_page(table.with_name(f"{place.name}.html"), title, scored, scorers, missing)
    return read_rows([table])


def _is_current(table: Path, place: Path, scorers: Sequence[Scorer]) -> bool:
    if not table.exists():
        return False
    rows, films = read_rows([table]), {film for film in place.iterdir() if film.suffix.lower() in SUFFIXES}
    columns = {measure.name for measure in measures_of(scorers)}
    is_newer = all(film.stat().st_mtime <= table.stat().st_mtime for film in films)
    return is_newer and {row["file"] for row in rows} == {film.name for film in films} and columns <= rows[0].keys()
