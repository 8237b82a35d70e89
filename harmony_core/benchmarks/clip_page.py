"""The scores of a folder of clips as one HTML page: plots, a table that sorts, and a player for every clip.

Nothing is fetched from elsewhere. Clips are within the page up to `EMBEDDED_MB` in all; above that the page names them
by their path from its own folder, and says so.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from urllib.parse import quote

from ..outputs import whole_file
from .clip_table import ScoredClip, measures_of
from .quality import bootstrap_interval
from .scorers import Measure, Scorer

EMBEDDED_MB = 32
PLAYABLE = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
WIDTH, HEIGHT, LEFT, RIGHT = 360, 92, 14, 346
BETTER = {"higher": "↑ higher is better", "lower": "↓ lower is better", "": ""}

STYLE = """
:root { --paper: #faf9f6; --panel: #fff; --ink: #26282e; --faint: #75777d; --rule: #e4e3de;
  --seen: #d65a1e; --heard: #2463be }
@media (prefers-color-scheme: dark) { :root { --paper: #17181b; --panel: #202226; --ink: #e8e6e1; --faint: #9a9ca3;
  --rule: #35373c; --seen: #f08a4f; --heard: #7fb0f5 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1240px; padding: 32px 20px 64px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 26px; margin: 0 0 4px } h2 { font-size: 18px; margin: 36px 0 12px }
p, .faint { color: var(--faint) } p { margin: 4px 0; max-width: 80ch }
.grid { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)) }
.plots { grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)) }
.card { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: 12px; min-width: 0 }
.card:target { outline: 2px solid var(--seen) }
.card video { width: 100%; aspect-ratio: 16 / 10; background: #000; border-radius: 4px; display: block }
.card h3 { font-size: 14px; margin: 10px 0 2px; overflow-wrap: anywhere } .card p { font-size: 13px }
.card dl { display: grid; grid-template-columns: 1fr auto; gap: 1px 12px; margin: 8px 0 0; font-size: 13px }
dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums } dt { color: var(--faint) }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: 13px; background: var(--panel) }
th, td { border-bottom: 1px solid var(--rule); padding: 6px 10px; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left } th button { all: unset; cursor: pointer }
th button:hover { color: var(--seen) }
th button:focus-visible, a:focus-visible { outline: 2px solid var(--heard) } a { color: var(--heard) }
svg { display: block; width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: var(--faint) }
svg circle { fill: var(--heard); fill-opacity: .55 } svg a:hover circle { fill: var(--seen); fill-opacity: 1 }
svg .axis { stroke: var(--rule) } svg .mean { stroke: var(--seen); stroke-width: 2 }
svg .interval { fill: var(--seen); fill-opacity: .18 }
li { margin: 2px 0 }
"""
SORT = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentElement, column = head.cellIndex, body = head.closest("table").tBodies[0];
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => row.cells[column].dataset.value;
  const order = (a, b) => key(a) === undefined ? 1 : key(b) === undefined ? -1 : isNaN(key(a)) || isNaN(key(b))
    ? key(a).localeCompare(key(b)) * (down ? -1 : 1) : (key(a) - key(b)) * (down ? -1 : 1);
  body.append(...[...body.rows].sort(order));
};
"""


def write_page(
    path: Path, title: str, rows: Sequence[ScoredClip], scorers: Sequence[Scorer], missing: dict[str, str]
) -> bool:
    """The page. Returns whether the clips are within it."""
    megabytes = sum(row.path.stat().st_size for row in rows) / 1e6
    embedded = megabytes <= EMBEDDED_MB
    where = "The clips are within this page." if embedded else "The clips are read from beside this page; keep them."
    measures = measures_of(scorers)
    measured = [measure for measure in measures if any(measure.name in row.values for row in rows)]
    empty = [measure.name for measure in measures if measure not in measured]
    plots = "".join(_plot(measure, rows) for measure in measured)
    cards = "".join(_card(number, row, measures, path.parent, embedded) for number, row in enumerate(rows))
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p>{len(rows)} clips. {where} A dash is no zero: it was not measured, and the clip says why.</p>
{_absences(missing, empty)}
<h2>Scores</h2><div class="grid plots">{plots}</div>
<p>A dot is a clip (click it). Line and band: the mean and its 95 % bootstrap interval.</p>
<h2>Table</h2><div class="scroll">{_table(rows, measured)}</div>
<h2>Clips</h2><div class="grid">{cards}</div>
<script>{SORT}</script></body></html>
"""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return embedded


def _absences(missing: dict[str, str], empty: Sequence[str]) -> str:
    lines = [f"<li><b>{escape(title)}</b> did not run: {escape(reason)}.</li>" for title, reason in missing.items()]
    lines += [f"<li><b>{escape(name)}</b>: no clip could be measured.</li>" for name in empty]
    return f"<h2>Not measured</h2><ul>{''.join(lines)}</ul>" if lines else ""


def _plot(measure: Measure, rows: Sequence[ScoredClip]) -> str:
    """Every clip a dot on one axis, dots that would lie on each other stacked."""
    found = [(row.values[measure.name], number) for number, row in enumerate(rows) if measure.name in row.values]
    values = [value for value, _ in found]
    mean, (low, high) = fmean(values), bootstrap_interval(values, seed=0)
    least, most = min(values), max(values)
    span = (most - least) or max(abs(most), 1.0)
    if most == least:
        least, most = least - span / 2, most + span / 2

    def x(value: float) -> float:
        return LEFT + (value - least) / (most - least) * (RIGHT - LEFT)

    base, taken, dots = HEIGHT - 28, [], []
    for value, number in sorted(found):
        place = x(value)
        height = sum(abs(place - other) < 8 for other in taken)
        taken.append(place)
        label = f"{rows[number].path.name}: {value:.4g}"
        circle = f'<circle cx="{place:.1f}" cy="{max(base - 8 - 7 * height, 6)}" r="4">'
        dots.append(f'<a href="#clip-{number}">{circle}<title>{escape(label)}</title></circle></a>')
    unit = f" {measure.unit}" if measure.unit else ""
    said = f"mean {_number(mean)}{unit} ({_number(low)} to {_number(high)}), {len(values)} of {len(rows)} clips"
    return f"""<div class="card"><b>{measure.name}</b> <span class="faint">{BETTER[measure.better]}</span>
<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{measure.name}: {said}")}">
<rect class="interval" x="{x(low):.1f}" y="4" width="{max(x(high) - x(low), 1):.1f}" height="{base - 4}"/>
<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{base}" y2="{base}"/>
<line class="mean" x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="4" y2="{base}"/>{"".join(dots)}
<text x="{LEFT}" y="{HEIGHT - 12}">{_number(least)}</text>
<text x="{RIGHT}" y="{HEIGHT - 12}" text-anchor="end">{_number(most)}</text>
</svg><p>{escape(said)}: {escape(measure.meaning)}</p></div>"""


def _table(rows: Sequence[ScoredClip], measures: Sequence[Measure]) -> str:
    names = ["clip", "seconds", *(measure.name for measure in measures)]
    heads = "".join(f"<th><button>{escape(name)}</button></th>" for name in names)
    lines = []
    for number, row in enumerate(rows):
        name = escape(row.path.name)
        cells = [f'<td data-value="{name}"><a href="#clip-{number}">{name}</a></td>', _cell(row.facts.get("seconds"))]
        cells += [_cell(row.values.get(measure.name)) for measure in measures]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _cell(value: float | None) -> str:
    return "<td>&ndash;</td>" if value is None else f'<td data-value="{value}">{_number(value)}</td>'


def _number(value: float | None) -> str:
    return "&ndash;" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _card(number: int, row: ScoredClip, measures: Sequence[Measure], folder: Path, embedded: bool) -> str:
    kind = PLAYABLE.get(row.path.suffix.lower())
    poster = f' poster="{_data(row.poster, "image/jpeg")}"' if row.poster else ""
    source = _data(row.path.read_bytes(), kind or "video/mp4") if embedded else _link(row.path, folder)
    notes = [*row.notes] if kind else [f"browsers do not play {row.path.suffix}", *row.notes]
    said = f"<p>{escape(row.texts['prompt'])}</p>" if row.texts["prompt"] else ""
    said += f"<p>“{escape(row.texts['transcript'])}”</p>" if row.texts["transcript"] else ""
    values = "".join(f"<dt>{measure.name}</dt><dd>{_number(row.values.get(measure.name))}</dd>" for measure in measures)
    told = f"<p>{escape('; '.join(notes))}</p>" if notes else ""
    return f"""<div class="card" id="clip-{number}"><video controls loop preload="none"{poster} src="{source}"></video>
<h3>{escape(row.path.name)}</h3>{said}<dl>{values}</dl>{told}</div>"""


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _link(path: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())
