"""What a step of UniAVGen costs here and by the published formulas, counted from shapes.

python -m benchmarks.uniavgen_cost > benchmarks/uniavgen_cost.csv
"""

from __future__ import annotations

import csv
import sys

from harmony_core.config import HarmonyConfig
from harmony_core.diffusion.guidance import GuidancePlan, SyncCFG
from harmony_core.geometry import ClipGeometry
from harmony_core.pipelines.plan import negative_cfg
from harmony_core.presets import preset

SIZES = ((1280, 736), (992, 736), (736, 736))  # width, height


def v2a_key_rows(config: HarmonyConfig, geometry: ClipGeometry) -> tuple[int, int]:
    """Rows that a layer projects to keys and values of V2A: here (a blank one more), and as published."""
    frames, height, width = config.grid(geometry.video_shape(1, config.video_channels))
    tokens = height * width
    return (frames + 1) * tokens, geometry.num_audio_latents * tokens


def v2a_flops(config: HarmonyConfig, rows: int) -> int:
    """Of the key and value projections of all layers, in one pass."""
    return 2 * 2 * rows * config.video_width.dim * config.audio_width.dim * len(config.layers_with_interaction)


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
        rows = v2a_key_rows(config, geometry)
        table.writerow((width, height, "v2a_key_rows_a_layer", *rows))
        table.writerow(
            (width, height, "v2a_projection_tflops_a_pass", *(round(v2a_flops(config, n) / 1e12, 2) for n in rows))
        )
    counts = passes(config)
    table.writerow(("", "", "passes_a_step", counts["published"], 2))
    table.writerow(("", "", "passes_a_step_sync_cfg", counts["sync"], ""))
    table.writerow(("", "", "passes_a_step_without_guidance", counts["none"], ""))


if __name__ == "__main__":
    main()
