"""Benchmark rows as a picture: curves over a logarithmic grid. Pillow only."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from ..sync.plot import FAINT, GRID, INK, PANEL, PAPER, _font

SIZE, LEFT, RIGHT, TOP, BOTTOM = (900, 520), 84, 190, 56, 56
COLOURS = ((214, 90, 30), (36, 99, 190), (60, 140, 70), (140, 70, 160))

Curves = dict[str, list[tuple[float, float]]]  # name -> (x, y) points, all above 0


def log_plot(curves: Curves, title: str, x_name: str, y_name: str) -> Image.Image:
    """One panel with both axes logarithmic, each curve labelled at its end."""
    image = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(image)
    box = (LEFT, TOP, SIZE[0] - RIGHT, SIZE[1] - BOTTOM)
    draw.rectangle(box, PANEL)
    xs, ys = (sorted({point[axis] for points in curves.values() for point in points}) for axis in (0, 1))
    spans = (xs[0], xs[-1]), (10 ** math.floor(math.log10(ys[0])), 10 ** math.ceil(math.log10(ys[-1])))

    def place(value: float, span: tuple[float, float], first: float, last: float) -> float:
        return first + (last - first) * math.log(value / span[0]) / math.log(span[1] / span[0])

    for x in xs:
        at = place(x, spans[0], box[0] + 16, box[2] - 16)
        draw.line((at, box[1], at, box[3]), GRID)
        draw.text((at, box[3] + 8), f"{x:g}", INK, _font(14), anchor="ma")
    y = spans[1][0]
    while y <= spans[1][1] * 1.001:
        at = place(y, spans[1], box[3], box[1])
        draw.line((box[0], at, box[2], at), GRID)
        draw.text((box[0] - 8, at), f"{y:g}", INK, _font(14), anchor="rm")
        y *= 10
    labels: list[float] = []
    for colour, (name, points) in zip(COLOURS, curves.items(), strict=False):
        line = [
            (place(x, spans[0], box[0] + 16, box[2] - 16), place(y, spans[1], box[3], box[1]))
            for x, y in sorted(points)
        ]
        draw.line(line, colour, 3)
        for at_x, at_y in line:
            draw.ellipse((at_x - 4, at_y - 4, at_x + 4, at_y + 4), colour)
        height = line[-1][1]
        while any(abs(height - other) < 18 for other in labels):
            height += 18
        labels.append(height)
        draw.text((box[2] + 10, height), name, colour, _font(15), anchor="lm")
    draw.text((LEFT, 16), title, INK, _font(18))
    draw.text(((box[0] + box[2]) / 2, SIZE[1] - 24), x_name, FAINT, _font(14), anchor="ma")
    draw.text((LEFT, TOP - 8), y_name, FAINT, _font(14), anchor="ls")
    return image


def framewise_curves(rows: list[dict], mode: str, column: str) -> Curves:
    """Both directions together, over clip seconds, per way."""
    totals: dict[str, dict[float, float]] = {}
    for row in rows:
        if row["op"] == "framewise_attention" and row["mode"] == mode:
            curve = totals.setdefault(row["way"], {})
            seconds = float(row["clip_seconds"])
            curve[seconds] = curve.get(seconds, 0.0) + float(row[column])
    return {way: [point for point in curve.items() if point[1] > 0] for way, curve in totals.items()}


def growth_curves(rows: list[dict], column: str) -> Curves:
    """A joint pass over the number of video latents, by length and by size."""
    curves: Curves = {}
    for row in rows:
        if row["part"] in ("length", "size") and float(row[column]) > 0:
            _, _, *grid = (int(n) for n in row["video_latent"].split("x"))
            curves.setdefault(f"by {row['part']}", []).append((math.prod(grid) / 4, float(row[column])))
    return curves
