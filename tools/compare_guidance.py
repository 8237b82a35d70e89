"""SyncCFG, isolation (LTX's modality guidance) and text CFG beside each other, each for the same number of passes.

    python -m tools.compare_guidance embedded [--scenes 24] [--way 'sync 1.5 3' ...] [--output benchmarks/guidance.csv]
    python -m tools.compare_guidance comfyui GRAPH.json --prompts benchmarks/harmony_bench.jsonl --limit 24 -o FOLDER
    python -m tools.compare_guidance score FOLDER --syncnet WEIGHTS    # the same clips by other scorers
    python -m tools.compare_guidance report benchmarks/guidance.csv    # the table, and guidance.svg beside the CSV

`embedded`: the embedded checkpoint on held-out scenes of the toy world. `comfyui`: any model that a running ComfyUI
has, by a graph of yours (Workflow > Export (API)) that makes a clip with Harmony SyncCFG; clips, scores and report are
in FOLDER. A run that was broken off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import urllib.error
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harmony_core.benchmarks.guidance import BUDGETS, WAYS, Way, compare, summary
from harmony_core.benchmarks.quality import read_rows
from harmony_core.benchmarks.scorers import ScorerOptions, open_scorers, read_commands
from harmony_core.benchmarks.timing import append_csv
from harmony_core.commands.options import find_device
from harmony_core.pipelines import HarmonyPipeline

from .comfyui.client import ComfyClient
from .comfyui.guided_clips import keep_settings, make_clips, read_prompts, score_clips
from .comfyui.guided_graph import GuidedGraph


def run_embedded(arguments: argparse.Namespace) -> None:
    """Append the rows that are not there yet."""
    torch.set_num_threads(arguments.threads)
    output = arguments.output
    rows = read_rows([output]) if output.exists() else []
    done = {(row["way"], int(row["budget"]), int(row["seed"])) for row in rows}
    pipeline = HarmonyPipeline.from_file(arguments.model)

    def told(way: str, scene: int) -> None:
        print(f"scenes from {scene}: {way}", flush=True)

    ways = named_ways(arguments.way) if arguments.way else WAYS
    for made in compare(pipeline, arguments.scenes, arguments.budget or BUDGETS, done, ways, told):
        append_csv(output, made)


def run_comfyui(arguments: argparse.Namespace) -> None:
    """Make the clips that are not there yet, score and report all."""
    graph, folder = GuidedGraph.read(arguments.graph), arguments.output
    ways = ways_of(graph, arguments.way)
    lines = read_prompts(arguments.prompts, folder, arguments.limit)
    keep_settings(folder, graph.prompt, lines)

    def told(name: str, number: int, total: int) -> None:
        print(f"{number + 1} of {total}: {name}", flush=True)

    client = ComfyClient(arguments.server)
    failures = make_clips(client, graph, lines, ways, arguments.budget or BUDGETS, folder, told)
    for reason, clips in failures.items():
        print(f"\n{len(clips)} clips failed and are tried again by the same command: {reason}", *clips, sep="\n* ")
    arguments.folder = folder
    run_score(arguments)


def named_ways(names: Sequence[str]) -> list[Way]:
    """The ways of names, each once, none first. Raises ValueError for what is no way."""
    return list(dict.fromkeys([Way(), *map(Way.of, names)]))


def ways_of(graph: GuidedGraph, names: Sequence[str] | None) -> list[Way]:
    """The ways that are asked for, or those of the embedded comparison that the graph can be guided by, none first.
    Raises ValueError for one that is asked for and cannot."""
    if names:
        ways = named_ways(names)
        for way in ways:
            if reason := graph.lacks(way):
                raise ValueError(f"{way.name}: {reason}")
        return ways
    lacking = {way.name: reason for way in WAYS if (reason := graph.lacks(way))}
    for name, reason in lacking.items():
        print(f"left out, {name}: {reason}")
    return [way for way in WAYS if way.name not in lacking]


def run_score(arguments: argparse.Namespace) -> None:
    """Score the clips of a folder and report."""
    commands, device = read_commands(arguments.scorer or []), find_device(arguments.device).type
    scorers, missing = open_scorers(ScorerOptions(arguments.syncnet, arguments.whisper, commands, device))
    for title, reason in missing.items():
        print(f"{title} does not run: {reason}")
    arguments.table = score_clips(arguments.folder, scorers, missing, lambda path: print(f"scored {path}", flush=True))
    run_report(arguments)


# The columns of a report: the embedded comparison's measures, then those of scorers, then costs.
FIRST_TOLD = ("sync", "obedience", "roundness", "disc_overlap", "shimmer")
COSTS = {"cpu_s": "CPU s", "server_s": "server s"}
UNTOLD = ("lag_s", "lag_confidence")
PLOTTED = {"sync": "Sync", "lse_c": "LSE-C", "av_align": "AV-Align"}
WIDTH, TOP, ROW, FIRST, LAST = 860, 46, 24, 330, 840


def run_report(arguments: argparse.Namespace) -> None:
    """Print a table for each budget, and draw sync as dots with intervals."""
    lines = summary(read_rows([arguments.table]))
    for budget in dict.fromkeys(line["budget"] for line in lines):
        print(f"\n{budget} passes a clip:\n\n{table([line for line in lines if line['budget'] == budget])}")
    for metric, title in PLOTTED.items():
        shown = [line for line in lines if line["metric"] == metric and line["more"] is not None]
        if shown:
            name = arguments.table.stem if metric == "sync" else f"{arguments.table.stem}_{metric}"
            picture = arguments.table.with_name(f"{name}.svg")
            picture.write_text(forest(shown, title))
            print(f"\n{picture}")


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Means, and in brackets the interval of the difference to no guidance at the same budget. Where a measure has
    fewer clips than the way, their number is said."""
    cells = {(line["way"], line["metric"]): line for line in lines}
    found = dict.fromkeys(line["metric"] for line in lines)
    others = [metric for metric in found if metric not in (*FIRST_TOLD, *COSTS, *UNTOLD)]
    metrics = [metric for metric in (*FIRST_TOLD, *others, *COSTS) if metric in found]
    rows = ["| guidance | steps | passes | " + " | ".join(COSTS.get(metric, metric) for metric in metrics) + " |"]
    rows.append("|---" * (len(metrics) + 3) + "|")
    for way in dict.fromkeys(line["way"] for line in lines):
        own = [line for line in lines if line["way"] == way]
        most = max(line["scenes"] for line in own)
        texts = [cell(cells.get((way, metric)), most) for metric in metrics]
        rows.append(f"| {way} | {own[0]['steps']} | {own[0]['passes']} | " + " | ".join(texts) + " |")
    return "\n".join(rows)


def cell(line: dict[str, Any] | None, most: int) -> str:
    """A mean of at most so many clips."""
    if line is None:
        return "not measured"
    text = f"{line['mean']:.3f}"
    if line["more"] is not None:
        text += f" ({line['more_low']:+.3f} to {line['more_high']:+.3f})"
    return text if line["scenes"] == most else f"{text}, n = {line['scenes']}"


def forest(lines: Sequence[dict[str, Any]], name: str) -> str:
    """Each way's difference to no guidance, with its interval, a panel a budget, as SVG."""
    reach = max(max(abs(line["more_low"]), abs(line["more_high"])) for line in lines) or 1.0
    middle, scale = (FIRST + LAST) / 2, (LAST - FIRST) / 2 / reach
    parts, y = [], TOP
    for budget in dict.fromkeys(line["budget"] for line in lines):
        parts.append(f'<text x="12" y="{y}" font-weight="bold">{budget} passes</text>')
        for line in (line for line in lines if line["budget"] == budget):
            y += ROW
            low, at, high = (middle + scale * line[name] for name in ("more_low", "more", "more_high"))
            parts.append(f'<text x="24" y="{y + 4}">{line["way"]} ({line["steps"]} steps)</text>')
            parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="#2463be" stroke-width="2"/>')
            parts.append(f'<circle cx="{at:.1f}" cy="{y}" r="4" fill="#2463be"/>')
        y += 2 * ROW
    title = f"{name} more than without guidance (0 in the middle; left {-reach:.2f}, right {reach:+.2f})"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="13">'
        f'<rect width="{WIDTH}" height="{y}" fill="#faf9f6"/><text x="12" y="20" font-size="15">{title}</text>'
        f'<line x1="{middle}" x2="{middle}" y1="{TOP}" y2="{y - ROW}" stroke="#96989e"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    embedded = commands.add_parser("embedded", help="the embedded checkpoint on the toy world")
    embedded.add_argument("--scenes", type=int, default=24)
    embedded.add_argument("--budget", type=int, action="append", help="passes a clip; may be repeated")
    embedded.add_argument("--way", action="append", help="such as 'text 2 + sync 1.5 3'; may be repeated; default: 11")
    embedded.add_argument("--model", default="harmony-tiny")
    embedded.add_argument("--threads", type=int, default=1)
    embedded.add_argument("--output", type=Path, default=Path("benchmarks/guidance.csv"))
    embedded.set_defaults(run=run_embedded)
    comfyui = commands.add_parser("comfyui", help="a graph of yours on a running ComfyUI")
    comfyui.add_argument("graph", type=Path, help="API format: Workflow > Export (API)")
    comfyui.add_argument("--server", default="http://127.0.0.1:8188")
    comfyui.add_argument("--prompts", type=Path, required=True, help="JSON lines as of `harmony generate --prompts`")
    comfyui.add_argument("--limit", type=int, help="so many of the lines, spread evenly")
    comfyui.add_argument("--budget", type=int, action="append", help=f"passes a clip; may be repeated; {BUDGETS}")
    comfyui.add_argument("--way", action="append", help="such as 'text 4 + sync 1.5'; may be repeated; default: 11")
    comfyui.add_argument("-o", "--output", type=Path, required=True, help="folder of the clips, scores and report")
    score = commands.add_parser("score", help="the clips of `comfyui` by other scorers")
    score.add_argument("folder", type=Path)
    for parser_ in (comfyui, score):
        parser_.add_argument("--syncnet", type=Path, help="folder of syncnet_v2.model and sfd_face.pth (LSE)")
        parser_.add_argument("--whisper", type=Path, help="folder of a Whisper checkpoint of transformers")
        parser_.add_argument("--scorer", action="append", help="NAME=COMMAND, as of `harmony bench clips`")
        parser_.add_argument("--device", default="auto", help="of the scorers")
    comfyui.set_defaults(run=run_comfyui)
    score.set_defaults(run=run_score)
    report = commands.add_parser("report", help="tables and a plot of what was measured")
    report.add_argument("table", type=Path)
    report.set_defaults(run=run_report)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except ValueError as error:
        sys.exit(str(error))
    except (urllib.error.URLError, ConnectionError) as error:
        sys.exit(f"ComfyUI does not answer ({error}); start it, or give its address with --server, and go on.")


if __name__ == "__main__":
    main()
