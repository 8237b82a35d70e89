"""One picture that shows whether a clip is in sync. Pillow only, so that it works inside ComfyUI.

Shape suffixes: F frames, T points of an audio curve, C channels, N samples, W columns of the picture.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .measure import SURE, SyncReport
from .sound import CURVE_RATE

WIDTH, LEFT, RIGHT = 1200, 92, 24
STRIP, WAVE, SPECTRUM, CURVES, AXIS, TITLE, GAP = 120, 84, 150, 130, 44, 64, 12
PAPER, PANEL, INK, FAINT = (250, 249, 246), (255, 255, 255), (38, 40, 46), (150, 152, 158)
SEEN, HEARD, GRID = (214, 90, 30), (36, 99, 190), (228, 227, 222)
# Anchors of the spectrogram's colours, dark to light.
HEAT = np.array([(14, 12, 34), (68, 24, 92), (150, 40, 96), (224, 86, 62), (250, 168, 62), (253, 240, 190)], np.float32)
RANGE_DB = 70


def sync_plot(
    report: SyncReport, frames: np.ndarray, samples: np.ndarray, sample_rate: int, title: str = ""
) -> Image.Image:
    """Film strip, waveform, spectrogram, and motion against loudness on one time axis, with the events of both.

    Args:
        frames: uint8 [F,H,W,3].
        samples: float [C,N] or [N].
    """
    samples_N = np.atleast_2d(samples).mean(0)
    height = TITLE + STRIP + WAVE + SPECTRUM + CURVES + AXIS + 4 * GAP
    image = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((LEFT, 12), title or "Sync of picture and sound", INK, _font(20))
    draw.text((LEFT, 39), describe(report), INK, _font(15))

    top = TITLE
    _label(draw, top, STRIP, "picture")
    _film_strip(image, top, frames)
    top += STRIP + GAP
    _label(draw, top, WAVE, "sound")
    _waveform(draw, top, samples_N, sample_rate, report)
    top += WAVE + GAP
    nyquist = sample_rate / 2
    _label(draw, top, SPECTRUM, f"60 Hz to\n{nyquist / 1000:g} kHz")
    spectrum = _spectrogram(samples_N, sample_rate, report.duration_s, _inner())
    image.paste(Image.fromarray(spectrum), (LEFT, top))
    top += SPECTRUM + GAP
    _curves(draw, top, report)
    _axis(draw, TITLE, top + CURVES, report)
    return image


def describe(report: SyncReport) -> str:
    """Lag, how sure it is, within what it was sought, and score, in one line."""
    score = "AV-Align: no events" if report.av_align is None else f"AV-Align {report.av_align:.2f}"
    if report.lag_ms is None:
        unsure = f" (confidence {report.lag_confidence:.2f} of {SURE:g})" if report.basis else ""
        return f"no lag told{unsure}: {report.reason}   |   {score}"
    when = f"{abs(report.lag_ms):.0f} ms {'late' if report.lag_ms > 0 else 'early'}"
    if abs(report.lag_ms) < 0.5:
        when = "on time"
    sought = f"sought within {report.max_lag_ms:.0f} ms"
    return f"sound {when} (confidence {report.lag_confidence:.2f}; {report.basis}; {sought})   |   {score}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _inner() -> int:
    return WIDTH - LEFT - RIGHT


def _x(seconds: float, report: SyncReport) -> float:
    return LEFT + seconds / report.duration_s * _inner()


def _label(draw: ImageDraw.ImageDraw, top: int, height: int, text: str, colour: tuple[int, int, int] = INK) -> None:
    draw.multiline_text((LEFT - 10, top + height / 2), text, colour, _font(13), anchor="rm", align="right")


def _film_strip(image: Image.Image, top: int, frames: np.ndarray) -> None:
    """As many pictures side by side as fit, each the frame shown at its left edge's time."""
    frame_height, frame_width = frames.shape[1:3]
    count = min(len(frames), max(1, round(_inner() * frame_height / (STRIP * frame_width))))
    edges = np.linspace(LEFT, WIDTH - RIGHT, count + 1).round().astype(int)
    for index in range(count):
        left, right = edges[index], edges[index + 1]
        picture = frames[min(int(index * len(frames) / count), len(frames) - 1)]
        scale = max((right - left) / frame_width, STRIP / frame_height)
        crop_x, crop_y = frame_width - (right - left) / scale, frame_height - STRIP / scale
        box = (crop_x / 2, crop_y / 2, frame_width - crop_x / 2, frame_height - crop_y / 2)
        size = (int(right - left) - 1, STRIP)
        image.paste(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC, box=box), (int(left), top))
    if count < len(frames):
        ImageDraw.Draw(image).text(
            (WIDTH - RIGHT, top - 4), f"{count} of {len(frames)} frames", FAINT, _font(12), anchor="rs"
        )


def _waveform(draw: ImageDraw.ImageDraw, top: int, samples_N: np.ndarray, sample_rate: int, report: SyncReport) -> None:
    _panel(draw, top, WAVE)
    edges_W = (np.linspace(0, report.duration_s, _inner() + 1) * sample_rate).astype(int)
    middle, reach = top + WAVE / 2, WAVE / 2 - 4
    loudest = max(np.abs(samples_N).max(initial=0), 1e-3)
    for column, (start, end) in enumerate(pairwise(edges_W)):
        part = samples_N[start : max(end, start + 1)]
        if len(part):
            low, high = middle - part.max() / loudest * reach, middle - part.min() / loudest * reach
            draw.line((LEFT + column, low, LEFT + column, high), HEARD)


def _spectrogram(samples_N: np.ndarray, sample_rate: int, duration_s: float, width: int) -> np.ndarray:
    """Log-frequency spectrogram, uint8 [SPECTRUM, W, 3]."""
    size = 2 ** round(np.log2(0.032 * sample_rate))
    starts_W = (np.linspace(0, duration_s, width) * sample_rate).astype(int)
    padded_N = np.pad(samples_N, (size // 2, size // 2 + max(0, starts_W[-1] + 1 - len(samples_N))))
    windows = padded_N[starts_W[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    pitch = np.geomspace(60, sample_rate / 2, SPECTRUM)[::-1] * size / sample_rate
    below = pitch.astype(int).clip(max=size // 2 - 1)
    share = (pitch - below).clip(0, 1)
    level = 10 * np.log10(power[:, below] * (1 - share) + power[:, below + 1] * share + 1e-9).T
    shade = ((level - level.max()) / RANGE_DB + 1).clip(0, 1) if level.max() > -60 else np.zeros_like(level)
    stops = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(shade, stops, HEAT[:, channel]) for channel in range(3)], -1).astype(np.uint8)


def _curves(draw: ImageDraw.ImageDraw, top: int, report: SyncReport) -> None:
    _panel(draw, top, CURVES)
    _label(draw, top, CURVES // 2, "motion", SEEN)
    _label(draw, top + CURVES // 2, CURVES // 2, "loudness", HEARD)
    base, reach = top + CURVES - 18, CURVES - 40
    heard = [(_x(i / CURVE_RATE, report), base - value * reach) for i, value in enumerate(report.loudness)]
    heard = [point for point in heard if point[0] <= WIDTH - RIGHT]
    if len(heard) > 1:
        draw.polygon([(LEFT, base), *heard, (heard[-1][0], base)], (214, 226, 243))
        draw.line(heard, HEARD, 2, joint="curve")
    top_motion = max(report.motion.max(), 1e-9)
    seen = [(_x(i / report.fps, report), base - v / top_motion * reach) for i, v in enumerate(report.motion)]
    if len(seen) > 1:
        draw.line(seen, SEEN, 3, joint="curve")
    for seconds in report.video_events:
        x = _x(seconds, report)
        draw.polygon([(x - 6, top + 2), (x + 6, top + 2), (x, top + 13)], SEEN)
    for seconds in report.audio_events:
        x = _x(seconds, report)
        draw.polygon([(x - 6, top + CURVES - 3), (x + 6, top + CURVES - 3), (x, top + CURVES - 14)], HEARD)


def _axis(draw: ImageDraw.ImageDraw, first: int, bottom: int, report: SyncReport) -> None:
    """Event lines through all panels, and the time scale."""
    for events, colour in ((report.video_events, SEEN), (report.audio_events, HEARD)):
        for seconds in events:
            x = _x(seconds, report)
            for y in range(first + STRIP + GAP, bottom, 9):
                draw.line((x, y, x, y + (4 if colour == SEEN else 2)), colour)
    step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60) if report.duration_s / s <= 13), 120)
    for tick in range(int(report.duration_s / step + 1e-6) + 1):
        x = _x(tick * step, report)
        draw.line((x, bottom, x, bottom + 5), INK)
        draw.text((x, bottom + 8), f"{tick * step:g} s", INK, _font(12), anchor="ma")
    legend = "orange: events in the picture    blue: onsets in the sound    positive lag: sound late"
    draw.text((LEFT, bottom + 28), legend, FAINT, _font(12))


def _panel(draw: ImageDraw.ImageDraw, top: int, height: int) -> None:
    draw.rectangle((LEFT, top, WIDTH - RIGHT, top + height - 1), PANEL, GRID)
