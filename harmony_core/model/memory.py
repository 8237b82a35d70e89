"""How many bytes a driver cache and a pass take: where to keep the one, whether to batch the other."""

from __future__ import annotations

import math

import torch

from ..config import HarmonyConfig

DEVICE, HOST, OFF = "device", "host", "off"  # where a driver cache lies
CPU_BATCH_BYTES = 64 << 20  # beyond it a CPU is busy with one pass already, and its caches overflow


def mute_audio_bytes(config: HarmonyConfig, num_audio_latents: int, rows: int, element_size: int) -> int:
    """Keys and values of an audio driver in every layer, as `DriverCache` keeps them."""
    return 2 * rows * len(config.layers_with_interaction) * num_audio_latents * config.video_width.dim * element_size


def static_video_bytes(
    config: HarmonyConfig, grid: tuple[int, int, int], rows: int, element_size: int, with_reference: bool
) -> int:
    """Keys and values of a video driver in every layer, as `DriverCache` keeps them.

    Args:
        grid: latent frames, patches high, patches wide.
        with_reference: reference audio is given, so that style alignment's keys and values are kept as well.
    """
    frames, high, wide = grid
    frames += config.interaction == "masked"  # its bias lies behind the latents
    tokens = len(config.layers_with_interaction) * frames * high * wide
    if with_reference and config.style_alignment:
        per_frame = 1 if config.style_pooling == "frame" else high * wide
        tokens += (config.num_layers - 1) * frames * per_frame
    return 2 * rows * tokens * config.audio_width.dim * element_size


def activation_bytes(config: HarmonyConfig, tokens: int, rows: int, element_size: int) -> int:
    """What a pass over `rows` rows of the longer stream holds at once: a block's feed-forward and its inputs."""
    width = config.video_width
    return rows * tokens * (2 * width.ffn_dim + 12 * width.dim) * element_size


def free_bytes(device: torch.device) -> float:
    """Memory that a pass may still use on a CUDA device; no limit elsewhere."""
    if device.type != "cuda":
        return math.inf
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def passes_fit_together(needed: int, device: torch.device) -> bool:
    """Whether passes that hold `needed` bytes should run as one batch."""
    return needed < (CPU_BATCH_BYTES if device.type == "cpu" else free_bytes(device) / 2)


def choose_placement(needed: float, free_device: float, free_host: float = math.inf) -> str:
    """`device` if `needed` bytes are less than half of what is free there, else `host` by the same rule, else `off`."""
    if needed < free_device / 2:
        return DEVICE
    return HOST if needed < free_host / 2 else OFF
