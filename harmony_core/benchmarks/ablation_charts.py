"""The ablation as pictures: rows with their intervals, and sync against training step. Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from ..sync.plot import FAINT, GRID, INK, PANEL, PAPER, _font
from .ablation import CURVES, ROWS
from .charts import COLOURS

Line = dict[str, Any]  # of `ablation.summary`
PANELS = {"ball_iou": "impacts of each ball, IoU", "attribution": "right ball", "mouth_r": "mouth and speech, r"}
CASES = {"joint": "joint", "joint_synccfg": "SyncCFG", "audio_to_video": "sound given", "video_to_audio": "film given"}
LEFT, WIDTH, ROW, TOP, GAP = 330, 230, 24, 66, 24


def rows_chart(lines: Sequence[Line]) -> Image.Image:
    """A panel a measure, a dot with its 95 % interval a row and case; chance and ground truth are lines."""
    last = max(int(line["step"]) for line in lines)
    found = {(line["row"], line["case"], line["metric"]): line for line in lines if int(line["step"]) in (0, last)}
    shown = [(row, case) for case in CASES for row in ROWS if any((row, case, metric) in found for metric in PANELS)]
    height = TOP + ROW * len(shown)
    image = Image.new("RGB", (LEFT + (WIDTH + GAP) * len(PANELS), height + 40), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((16, 14), "Parts of the method on the hard world: mean and 95 % interval", INK, _font(18))
    for index, (row, case) in enumerate(shown):
        at = TOP + ROW * (index + 0.5)
        draw.text((LEFT - 12, at), f"{CASES[case]}: {_title(row)}", INK, _font(13), anchor="rm")
    for panel, (metric, title) in enumerate(PANELS.items()):
        left = LEFT + panel * (WIDTH + GAP)
        low, high = (-0.2, 1.0) if metric == "mouth_r" else (0.0, 1.0)

        def place(value: float, left: int = left, low: float = low, high: float = high) -> float:
            return left + WIDTH * (min(max(value, low), high) - low) / (high - low)

        draw.rectangle((left, TOP, left + WIDTH, height), PANEL)
        draw.text((left, TOP - 8), title, FAINT, _font(14), anchor="ls")
        for tick in (0.0, 0.5, 1.0):
            draw.line((place(tick), TOP, place(tick), height), GRID)
            draw.text((place(tick), height + 6), f"{tick:g}", INK, _font(13), anchor="ma")
        for name, colour in (("shuffled", FAINT), ("ground_truth", COLOURS[2])):
            at = place(float(found[name, "", metric]["mean"]))
            draw.line((at, TOP, at, height), colour, 2)
        for index, (row, case) in enumerate(shown):
            line = found.get((row, case, metric))
            if line is not None:
                colour = COLOURS[list(CASES).index(case)]
                y = TOP + ROW * (index + 0.5)
                draw.line((place(float(line["low"])), y, place(float(line["high"])), y), colour, 2)
                x = place(float(line["mean"]))
                draw.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
    draw.text((16, height + 16), "grey line: shuffled pairs; green line: ground truth", FAINT, _font(13))
    return image


def steps_chart(lines: Sequence[Line], metric: str) -> Image.Image:
    """A measure against the training step, of the rows and cases in CURVES."""
    points: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for line in lines:
        if line["metric"] == metric and line["case"] in CURVES.get(line["row"], ()):
            points.setdefault((line["row"], line["case"]), []).append((int(line["step"]), float(line["mean"])))
    chance = next(float(each["mean"]) for each in lines if (each["row"], each["metric"]) == ("shuffled", metric))
    box = (70, 56, 560, 360)
    image = Image.new("RGB", (960, 420), PAPER)
    draw = ImageDraw.Draw(image)
    draw.rectangle(box, PANEL)
    steps = sorted({step for curve in points.values() for step, _ in curve})
    highest = max([chance, *(value for curve in points.values() for _, value in curve)]) * 1.1

    def place(step: float, value: float) -> tuple[float, float]:
        share = max(value, 0) / highest
        return box[0] + (box[2] - box[0]) * step / steps[-1], box[3] - (box[3] - box[1]) * share

    for step in steps:
        draw.text((place(step, 0)[0], box[3] + 8), str(step), INK, _font(14), anchor="ma")
    for tick in (0.0, highest / 2, highest):
        draw.line((box[0], place(0, tick)[1], box[2], place(0, tick)[1]), GRID)
        draw.text((box[0] - 8, place(0, tick)[1]), f"{tick:.2f}", INK, _font(14), anchor="rm")
    draw.line((place(0, chance), place(steps[-1], chance)), FAINT, 2)
    draw.text((box[0] + 6, place(0, chance)[1] - 4), "shuffled pairs", FAINT, _font(13), anchor="ls")
    for index, (colour, ((row, case), curve)) in enumerate(zip(COLOURS, points.items(), strict=False)):
        path = [place(step, value) for step, value in sorted(curve)]
        draw.line(path, colour, 3)
        for x, y in path:
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
        draw.rectangle((580, 66 + 28 * index, 594, 80 + 28 * index), colour)
        draw.text((602, 73 + 28 * index), f"{CASES[case]}: {_title(row)}", INK, _font(13), anchor="lm")
    draw.text((16, 14), f"{PANELS[metric]}, against the training step (first seed)", INK, _font(18))
    draw.text(((box[0] + box[2]) / 2, 392), "step", FAINT, _font(14), anchor="ma")
    return image


def _title(row: str) -> str:
    return ROWS[row].title
