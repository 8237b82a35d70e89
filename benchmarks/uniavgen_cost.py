"""What a step of UniAVGen costs here and by the published formulas, counted at full size without weights.

python -m benchmarks.uniavgen_cost > benchmarks/uniavgen_cost.csv
"""

from __future__ import annotations

import csv
import sys

import torch

from harmony_core.benchmarks.model import flops
from harmony_core.config import HarmonyConfig
from harmony_core.diffusion.guidance import GuidancePlan, SyncCFG
from harmony_core.geometry import ClipGeometry
from harmony_core.model import layers
from harmony_core.model.blocks import torch_attention
from harmony_core.model.inputs import AudioInput, VideoInput, clean_sigma
from harmony_core.model.masked import BetweenFramesAttention, MaskedGeometry
from harmony_core.pipelines.plan import negative_cfg
from harmony_core.presets import preset

SIZES = ((1280, 736), (992, 736), (736, 736))  # width, height


def v2a_key_rows(config: HarmonyConfig, geometry: ClipGeometry) -> tuple[int, int]:
    """Rows that a layer projects to keys and values of V2A: here (a blank one more), and as published."""
    frames, height, width = config.grid(geometry.video_shape(1, config.video_channels))
    tokens = height * width
    return (frames + 1) * tokens, geometry.num_audio_latents * tokens


def v2a_flops(config: HarmonyConfig, geometry: ClipGeometry) -> tuple[int, int]:
    """Of V2A in all layers, in one pass: here, and by the published formula; both are run, on the meta device."""
    with torch.device("meta"):
        attention = BetweenFramesAttention(config.audio_width, config.video_width, config.eps, layers)
        video = torch.empty(geometry.video_shape(1, config.video_channels))
        audio = torch.empty(geometry.audio_shape(1, config.audio_channels))
        text = torch.empty(1, 1, config.text_dim)
        frames, height, width = config.grid(video.shape)
        x_BLD = torch.empty(1, audio.shape[2], config.audio_width.dim)
        context_BLD = torch.empty(1, frames * height * width, config.video_width.dim)
        tables = MaskedGeometry.of(
            VideoInput(video, clean_sigma(video), text), AudioInput(audio, clean_sigma(audio), text), config
        )
        here = flops(lambda: attention(x_BLD, attention.keys_values(context_BLD, frames), tables, torch_attention))
        published = flops(lambda: attention.forward_naive(x_BLD, context_BLD, tables, torch_attention))
    count = len(config.layers_with_interaction)
    return here * count, published * count


def passes(config: HarmonyConfig) -> dict[str, float]:
    """Model passes a step, by guidance."""
    plans = {
        "published": negative_cfg(config, config.video_negative_scale, config.audio_negative_scale),
        "sync": (SyncCFG(video_scale=3.0, audio_scale=2.0),),
        "none": (),
    }
    return {name: GuidancePlan(guidances, config.steps).passes_per_step for name, guidances in plans.items()}


def main() -> None:
    config = preset("uniavgen")
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("width", "height", "quantity", "here", "published"))
    for width, height in SIZES:
        geometry = ClipGeometry.from_seconds(config.seconds, config.fps, height, width, config)
        table.writerow((width, height, "v2a_key_rows_a_layer", *v2a_key_rows(config, geometry)))
        tera = (round(count / 1e12, 2) for count in v2a_flops(config, geometry))
        table.writerow((width, height, "v2a_tflop_a_pass", *tera))
    counts = passes(config)
    table.writerow(("", "", "passes_a_step", counts["published"], 2))
    table.writerow(("", "", "passes_a_step_sync_cfg", counts["sync"], ""))
    table.writerow(("", "", "passes_a_step_without_guidance", counts["none"], ""))


if __name__ == "__main__":
    main()
