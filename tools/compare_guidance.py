"""SyncCFG, isolation (LTX's modality guidance) and text CFG beside each other, each for the same number of passes.

    python -m tools.compare_guidance embedded [--scenes 24] [--output benchmarks/guidance.csv]
    python -m tools.compare_guidance report benchmarks/guidance.csv    # the table, and guidance.svg beside the CSV

The embedded checkpoint on held-out scenes of the toy world. Rows are appended way by way; a run that was broken off
goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harmony_core.benchmarks.guidance import BUDGETS, compare, summary
from harmony_core.benchmarks.quality import read_rows
from harmony_core.benchmarks.timing import append_csv
from harmony_core.pipelines import HarmonyPipeline


def run_embedded(arguments: argparse.Namespace) -> None:
    """Append the rows that are not there yet."""
    torch.set_num_threads(arguments.threads)
    output = arguments.output
    rows = read_rows([output]) if output.exists() else []
    done = {(row["way"], int(row["budget"]), int(row["seed"])) for row in rows}
    pipeline = HarmonyPipeline.from_file(arguments.model)

    def told(way: str, scene: int) -> None:
        print(f"scenes from {scene}: {way}", flush=True)

    for made in compare(pipeline, arguments.scenes, arguments.budget or BUDGETS, done, progress=told):
        append_csv(output, made)


METRICS = {"sync": "sync", "obedience": "obedience", "roundness": "roundness", "shimmer": "shimmer", "cpu_s": "CPU s"}
WIDTH, TOP, ROW, FIRST, LAST = 860, 46, 24, 330, 840


def run_report(arguments: argparse.Namespace) -> None:
    """Print a table for each budget, and draw sync as dots with intervals."""
    lines = summary(read_rows([arguments.table]))
    for budget in dict.fromkeys(line["budget"] for line in lines):
        print(f"\n{budget} passes a clip:\n\n{table([line for line in lines if line['budget'] == budget])}")
    picture = arguments.table.with_suffix(".svg")
    picture.write_text(forest([line for line in lines if line["metric"] == "sync"]))
    print(f"\n{picture}")


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Means, and in brackets the interval of the difference to no guidance at the same budget."""
    cells = {(line["way"], line["metric"]): line for line in lines}
    rows = ["| guidance | steps | " + " | ".join(METRICS.values()) + " |", "|---" * (len(METRICS) + 2) + "|"]
    for way in dict.fromkeys(line["way"] for line in lines):
        texts = [str(cells[way, "sync"]["steps"])]
        for metric in METRICS:
            line = cells[way, metric]
            texts.append(f"{line['mean']:.3f} ({line['more_low']:+.3f} to {line['more_high']:+.3f})")
        rows.append(f"| {way} | " + " | ".join(texts) + " |")
    return "\n".join(rows)


def forest(lines: Sequence[dict[str, Any]]) -> str:
    """Each way's difference to no guidance, with its interval, a panel a budget, as SVG."""
    reach = max(max(abs(line["more_low"]), abs(line["more_high"])) for line in lines)
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
    title = f"Sync more than without guidance (0 in the middle; left {-reach:.2f}, right {reach:+.2f})"
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
    embedded.add_argument("--model", default="harmony-tiny")
    embedded.add_argument("--threads", type=int, default=1)
    embedded.add_argument("--output", type=Path, default=Path("benchmarks/guidance.csv"))
    embedded.set_defaults(run=run_embedded)
    report = commands.add_parser("report", help="tables and a plot of what was measured")
    report.add_argument("table", type=Path)
    report.set_defaults(run=run_report)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
