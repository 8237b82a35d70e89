"""Inputs that several nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..harmony_core.checkpoints.bundle import embedded_checkpoints, read_settings
from ..harmony_core.config import HarmonyConfig
from ..harmony_core.presets import PRESETS

BUILT_IN = HarmonyConfig.from_dict(read_settings(embedded_checkpoints()["harmony-tiny"])[0]["transformer"])


def seconds_input(name: str, tooltip: str, maximum: float = 3600.0, **options: Any) -> io.Float.Input:
    """A length or a time, 0 unless someone says otherwise."""
    return io.Float.Input(name, default=0.0, min=0.0, max=maximum, step=0.01, tooltip=tooltip, **options)


def pixels_input(name: str, tooltip: str, **options: Any) -> io.Int.Input:
    """A size in pixels, 0 unless someone says otherwise."""
    return io.Int.Input(name, default=0, min=0, max=8192, step=16, tooltip=tooltip, **options)


def layer_list(name: str, text: str) -> tuple[int, ...]:
    """Layer numbers of the comma-separated list in input `name`. Raises ValueError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"{name} is {text!r}; write layer numbers with commas between them, such as 3, 4.")
    return tuple(int(part) for part in parts)


def scale_input(name: str, default: float, tooltip: str, **options: Any) -> io.Float.Input:
    """A guidance scale, 1.0 = off."""
    return io.Float.Input(name, default=default, min=0.0, max=20.0, step=0.05, tooltip=tooltip, **options)


def sync_inputs() -> list[io.Float.Input]:
    normal = "1.5 is normal. 1.0 = off, saves one pass per step."
    return [
        scale_input(
            "video_sync_scale",
            BUILT_IN.video_sync_scale,
            f"Lips or hits do not follow the sound: raise this. {normal}",
        ),
        scale_input(
            "audio_sync_scale",
            BUILT_IN.audio_sync_scale,
            f"The sound misses what is seen: raise this. {normal}",
        ),
    ]


def text_inputs(**options: Any) -> list[io.Float.Input]:
    saves = "1.0 for both text scales = off, saves one pass per step."
    return [
        scale_input("video_text_scale", BUILT_IN.video_text_scale, f"Text guidance of the video. {saves}", **options),
        scale_input("audio_text_scale", BUILT_IN.audio_text_scale, f"Text guidance of the sound. {saves}", **options),
    ]


def negative_scales() -> list[io.Float.Input]:
    """UniAVGen's own guidance."""
    saves = "1.0 for both negative scales = off, saves one pass per step."
    return [
        scale_input(
            f"{stream}_negative_scale",
            1.0,
            f"UniAVGen's own guidance of the {what} ({published:.1f} as published, sync scales at 1.0): away from the "
            f"negative, deaf streams and a left-out layer in one. {saves}",
            optional=True,
            advanced=True,
        )
        for stream, what, published in (
            ("video", "video", PRESETS["uniavgen"].video_negative_scale),
            ("audio", "sound", PRESETS["uniavgen"].audio_negative_scale),
        )
    ]


def negative_input() -> io.Conditioning.Input:
    return io.Conditioning.Input(
        "negative",
        optional=True,
        tooltip="What the clip should not be. Not connected: an empty prompt, where positive comes from Harmony Text "
        "Encode. Core's ConditioningZeroOut leaves the words for the sound in.",
    )
