"""How much device memory a clip needs, computed from shapes. Estimates, not measurements: a device's own overhead
(context, fragmentation, kernels' scratch memory) comes on top."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..autoencoders.audio import MMAudioVAE
from ..autoencoders.video import PIXELS_PER_LATENT, WAN22_CONFIG
from ..config import HarmonyConfig
from ..geometry import ClipGeometry, as_fraction
from ..model import HarmonyTransformer
from ..model.memory import activation_bytes
from ..presets import PRESETS
from .offload import OFFLOADS

UMT5_PARAMETERS = 5_680_910_336  # umT5-xxl's encoder
UMT5_LARGEST = 256_384 * 4096  # its token table, the largest layer that is streamed
WAN_VAE_PARAMETERS = 704_688_668
VAE_ACTIVATIONS = 6  # maps of the decoder's last and widest level that are alive together
DTYPES = ("float32", "bfloat16")


def parameters(config: HarmonyConfig) -> dict[str, int]:
    """Parameters of each published part that goes with a transformer of this config."""
    counts = {
        "transformer": _count(_meta_transformer(config)),
        "text encoder": UMT5_PARAMETERS,
        "video autoencoder": WAN_VAE_PARAMETERS,
    }
    if config.audio:
        with torch.device("meta"):
            counts["audio autoencoder"] = _count(MMAudioVAE())
    return counts


def peak_bytes(config: HarmonyConfig, dtype: str) -> dict[str, int]:
    """Estimated peak per `offload` for the config's own clip: transformer and text encoder in `dtype`, autoencoders in
    float32."""
    size = getattr(torch, dtype).itemsize
    geometry = ClipGeometry.from_seconds(
        as_fraction(config.seconds), as_fraction(config.fps), config.height, config.width, config
    )
    tokens = math.prod(config.grid(geometry.video_shape(1, config.video_channels)))
    running = activation_bytes(config, tokens, 1, size)
    half_width, half_height = config.width // 2, config.height // 2
    level = WAN22_CONFIG["decoder_base_dim"] * config.temporal_stride * half_width * half_height * 4
    decoding = VAE_ACTIVATIONS * level
    counts = parameters(config)
    transformer, text = (counts[name] * size for name in ("transformer", "text encoder"))
    video, audio = (counts.get(f"{name} autoencoder", 0) * 4 for name in ("video", "audio"))
    largest = max(parameter.numel() for parameter in _meta_transformer(config).parameters()) * size
    return {
        "none": transformer + text + video + audio + max(running, decoding),
        "model": max(transformer + running, text, video + decoding, audio),
        "layers": max(largest + running, UMT5_LARGEST * size, video + decoding, audio),
    }


def memory_table(config: HarmonyConfig) -> str:
    """Both of the above as markdown, in GiB.

    Raises:
        ValueError: a model that does not go with the published autoencoders and umT5.
    """
    if config.text_dim != PRESETS["harmony-5b"].text_dim or config.spatial_stride != PIXELS_PER_LATENT:
        raise ValueError(
            "Memory is computed for models that use the Wan2.2 autoencoder and umT5, and this one does not."
        )
    lines = ["| part | parameters | float32 | bfloat16 |", "|---|---|---|---|"]
    for name, count in parameters(config).items():
        lines.append(f"| {name} | {count:,} | {_gib(count * 4)} | {_gib(count * 2)} |")
    clip = f"{config.width}x{config.height}, {float(as_fraction(config.seconds)):.2g} s"
    lines += ["", f"| peak at {clip} | {' | '.join(f'--offload {name}' for name in OFFLOADS)} |"]
    lines.append("|---|" + "---|" * len(OFFLOADS))
    for dtype in DTYPES:
        peaks = peak_bytes(config, dtype)
        lines.append(f"| --dtype {dtype} | {' | '.join(_gib(peaks[name]) for name in OFFLOADS)} |")
    return "\n".join(lines)


def _meta_transformer(config: HarmonyConfig) -> HarmonyTransformer:
    return HarmonyTransformer(config, device="meta")


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
