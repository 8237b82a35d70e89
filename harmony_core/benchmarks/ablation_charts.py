"""The ablation as pictures: what each part changes, and sync and losses against the training step. Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from ..sync.plot import FAINT, GRID, INK, PANEL, PAPER, _font
from .ablation_rows import CURVES, PARTS, ROWS, STEPS_CASE, SYNC_CFG
from .charts import COLOURS

Line = dict[str, Any]  # of `ablation_tables.summary` or `differences`
Panels = dict[tuple[str, str], str]  # titles of cases and metrics
LOSSES: Panels = {
    ("joint", "video_loss"): "picture, joint",
    ("joint", "audio_loss"): "sound, joint",
    ("audio_to_video", "video_loss"): "picture, sound given",
    ("video_to_audio", "audio_loss"): "sound, film given",
}
CLIPS: Panels = {
    ("joint", "ball_iou"): "impacts, joint",
    ("joint", "mouth_r"): "mouth, joint",
    ("audio_to_video", "mouth_r"): "mouth, sound given",
    ("video_to_audio", "mouth_r"): "mouth, film given",
}
LEFT, WIDTH, ROW, TOP, GAP = 330, 180, 34, 84, 56
STEPS = {
    "mouth_r": "mouth and sound, r",
    "ball_iou": "each ball's impacts, IoU",
    "video_loss": "held-out loss",
}
STEP_LEFT, STEP_WIDTH, STEP_GAP = 84, 280, 84


def changes_chart(changes: Sequence[Line], panels: Panels, what: str) -> Image.Image:
    """A panel a measure, with a scale of its own; of each part the mean change and its 95 % interval.

    Args:
        what: is measured, and which side is better.
    """
    # Guided clips are beside unguided ones of the same case.
    found = {(each["part"], str(each["case"]).removesuffix("_synccfg"), each["metric"]): each for each in changes}
    shown = [part for part in (*PARTS, SYNC_CFG) if any((part, *panel) in found for panel in panels)]
    height = TOP + ROW * len(shown)
    image = Image.new("RGB", (LEFT + (WIDTH + GAP) * len(panels), height + 48), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((16, 14), f"What each part changes: {what}; mean and 95 % interval", INK, _font(18))
    for index, part in enumerate(shown):
        draw.text((LEFT - 12, TOP + ROW * (index + 0.5)), part, INK, _font(14), anchor="rm")
    for panel, ((case, metric), title) in enumerate(panels.items()):
        left = LEFT + panel * (WIDTH + GAP)
        drawn = [each for part in shown if (each := found.get((part, case, metric))) is not None]
        reach = 1.1 * max((abs(float(each[end])) for each in drawn for end in ("low", "high")), default=0.0) or 1.0
        middle, scale = left + WIDTH / 2, WIDTH / 2 / reach
        draw.rectangle((left, TOP, left + WIDTH, height), PANEL)
        draw.text((left, TOP - 8), title, FAINT, _font(14), anchor="ls")
        draw.line((middle, TOP, middle, height), FAINT, 2)
        for tick in (-reach / 1.1, 0.0, reach / 1.1):
            draw.text((middle + tick * scale, height + 8), f"{tick:.3f}", INK, _font(13), anchor="ma")
        for index, part in enumerate(shown):
            each = found.get((part, case, metric))
            if each is not None:
                y, colour = TOP + ROW * (index + 0.5), COLOURS[panel]
                mean, low, high = (middle + float(each[name]) * scale for name in ("mean", "low", "high"))
                draw.line((low, y, high, y), colour, 2)
                draw.ellipse((mean - 4, y - 4, mean + 4, y + 4), colour)
    return image


def steps_chart(lines: Sequence[Line]) -> Image.Image:
    """The picture with the sound given against the training step, of the rows in CURVES: a panel a measure, with 95 %
    intervals."""
    image = Image.new("RGB", (STEP_LEFT + (STEP_WIDTH + STEP_GAP) * len(STEPS), 480), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((16, 14), "Picture with the sound given, against the training step; 95 % intervals", INK, _font(18))
    for index, (colour, row) in enumerate(zip(COLOURS, CURVES, strict=False)):
        left = STEP_LEFT + 300 * index
        draw.rectangle((left, 446, left + 14, 460), colour)
        draw.text((left + 22, 453), ROWS[row].title, INK, _font(14), anchor="lm")
    for panel, (metric, title) in enumerate(STEPS.items()):
        left = STEP_LEFT + panel * (STEP_WIDTH + STEP_GAP)
        shown = [line for line in lines if (line["case"], line["metric"]) == (STEPS_CASE, metric)]
        _draw_curves(draw, (left, 72, left + STEP_WIDTH, 392), title, shown)
    return image


def _draw_curves(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], title: str, lines: Sequence[Line]) -> None:
    left, top, right, bottom = box
    draw.text((left, top - 8), title, FAINT, _font(14), anchor="ls")
    draw.rectangle(box, PANEL)
    curves = {row: [line for line in lines if line["row"] == row] for row in CURVES}
    drawn = [line for curve in curves.values() for line in curve]
    if not drawn:
        return
    low, high = min(float(line["low"]) for line in drawn), max(float(line["high"]) for line in drawn)
    margin = max(high - low, 1e-6) * 0.1
    last = max(int(line["step"]) for line in drawn)

    def place(step: Any, value: Any) -> tuple[float, float]:
        share = (float(value) - low + margin) / (high - low + 2 * margin)
        return left + (right - left) * int(step) / last, bottom - (bottom - top) * share

    for step in sorted({int(line["step"]) for line in drawn}):
        draw.text((place(step, low)[0], bottom + 8), str(step), INK, _font(14), anchor="ma")
    for tick in (low, (low + high) / 2, high):
        y = place(0, tick)[1]
        draw.line((left, y, right, y), GRID)
        draw.text((left - 8, y), f"{tick:.3f}", INK, _font(14), anchor="rm")
    for colour, curve in zip(COLOURS, curves.values(), strict=False):
        points = sorted(curve, key=lambda line: int(line["step"]))
        draw.line([place(line["step"], line["mean"]) for line in points], colour, 3)
        for line in points:
            x, y = place(line["step"], line["mean"])
            draw.line((x, place(0, line["low"])[1], x, place(0, line["high"])[1]), colour, 1)
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
