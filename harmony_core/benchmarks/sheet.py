"""A contact sheet of clips: frames in a row, the sound below as a log-mel spectrogram, the caption above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..toyworld.measures.spectra import mel_filters, power_frames

CAPTION, SOUND, GAP = 22, 56, 10


def contact_sheet(
    clips: Sequence[tuple[str, np.ndarray, np.ndarray]], every: int = 3, scale: int = 2, columns: int = 2
) -> Image.Image:
    """Draw clips.

    Args:
        clips: (caption, frames uint8 [F, H, W, 3], samples float32 [N] at 16 kHz).
        every: which frames are shown.
        scale: enlargement of a frame.
    """
    strips = [_strip(*clip, every, scale) for clip in clips]
    width, height = max(strip.width for strip in strips), max(strip.height for strip in strips)
    rows = -(-len(strips) // columns)
    size = columns * (width + GAP) + GAP, rows * (height + GAP) + GAP
    sheet = Image.new("RGB", size, (255, 255, 255))
    for index, strip in enumerate(strips):
        row, column = divmod(index, columns)
        sheet.paste(strip, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return sheet


def _strip(caption: str, frames: np.ndarray, samples: np.ndarray, every: int, scale: int) -> Image.Image:
    shown = frames[::every]
    height, width = shown.shape[1] * scale, shown.shape[2] * scale
    strip = Image.new("RGB", (width * len(shown), CAPTION + height + SOUND), (255, 255, 255))
    ImageDraw.Draw(strip).text((2, 3), caption, fill=(20, 20, 20), font=ImageFont.load_default(size=14))
    for index, frame in enumerate(shown):
        picture = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)
        strip.paste(picture, (index * width, CAPTION))
    level = np.log10(power_frames(samples) @ mel_filters(64).T + 1e-6)  # [frames, mels]
    grey = np.clip((level.T[::-1] + 4) / 6, 0, 1)
    sound = Image.fromarray((grey * 255).astype(np.uint8)).resize((strip.width, SOUND), Image.Resampling.BILINEAR)
    strip.paste(sound, (0, CAPTION + height))
    return strip
