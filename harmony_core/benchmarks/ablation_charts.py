"""The ablation as pictures: what each part changes, and losses against the training step. Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from ..sync.plot import FAINT, GRID, INK, PANEL, PAPER, _font
from .ablation_rows import CURVES, PARTS, ROWS, SYNC_CFG
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
        reach = max((abs(float(each[end])) for each in drawn for end in ("low", "high")), default=1.0) * 1.1
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
    """The loss of the picture with the sound given against the training step, of the rows in CURVES."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        if (line["case"], line["metric"]) == ("audio_to_video", "video_loss") and line["row"] in CURVES:
            points.setdefault(line["row"], []).append((int(line["step"]), float(line["mean"])))
    steps = sorted({step for curve in points.values() for step, _ in curve})
    values = [value for curve in points.values() for _, value in curve]
    box = (84, 56, 560, 360)
    image = Image.new("RGB", (960, 420), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((16, 14), "Picture with the sound given: held-out loss against the training step", INK, _font(18))
    draw.text(((box[0] + box[2]) / 2, 392), "step", FAINT, _font(14), anchor="ma")
    draw.rectangle(box, PANEL)
    if not points:
        return image
    low, high = min(values), max(values)
    margin = max(high - low, 1e-6) * 0.1

    def place(step: float, value: float) -> tuple[float, float]:
        share = (value - low + margin) / (high - low + 2 * margin)
        return box[0] + (box[2] - box[0]) * step / steps[-1], box[3] - (box[3] - box[1]) * share

    for step in steps:
        draw.text((place(step, low)[0], box[3] + 8), str(step), INK, _font(14), anchor="ma")
    for tick in (low, (low + high) / 2, high):
        draw.line((box[0], place(0, tick)[1], box[2], place(0, tick)[1]), GRID)
        draw.text((box[0] - 8, place(0, tick)[1]), f"{tick:.3f}", INK, _font(14), anchor="rm")
    for index, (colour, row) in enumerate(zip(COLOURS, points, strict=False)):
        path = [place(step, value) for step, value in sorted(points[row])]
        draw.line(path, colour, 3)
        for x, y in path:
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
        draw.rectangle((580, 66 + 28 * index, 594, 80 + 28 * index), colour)
        draw.text((602, 73 + 28 * index), ROWS[row].title, INK, _font(14), anchor="lm")
    return image
