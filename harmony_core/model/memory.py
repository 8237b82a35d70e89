"""How many bytes a driver cache and a pass take: where to keep the one, whether to batch the other."""

from __future__ import annotations

from ..config import HarmonyConfig

DEVICE, HOST, OFF = "device", "host", "off"  # where a driver cache lies


def mute_audio_bytes(config: HarmonyConfig, num_audio_latents: int, rows: int, element_size: int) -> int:
    """Keys and values of an audio driver in every layer, as `DriverCache` keeps them."""
    return 2 * rows * config.num_layers * num_audio_latents * config.dim * element_size


def static_video_bytes(
    config: HarmonyConfig, grid: tuple[int, int, int], rows: int, element_size: int, with_reference: bool
) -> int:
    """Keys and values of a video driver in every layer, as `DriverCache` keeps them.

    Args:
        grid: latent frames, patches high, patches wide.
        with_reference: reference audio is given, so that style alignment's keys and values are kept as well.
    """
    frames, high, wide = grid
    tokens = config.num_layers * frames * high * wide
    if with_reference and config.style_alignment:
        per_frame = 1 if config.style_pooling == "frame" else high * wide
        tokens += (config.num_layers - 1) * frames * per_frame
    return 2 * rows * tokens * config.dim * element_size


def choose_placement(needed: int, free_device: int, free_host: int) -> str:
    """`device` if `needed` bytes are less than half of what is free there, else `host` by the same rule, else `off`."""
    if needed < free_device / 2:
        return DEVICE
    return HOST if needed < free_host / 2 else OFF
