"""Which seed the shipped workflows of the built-in model have: the best of the first few by our own measure.

A seed stands in seed.json, which `python -m tools.workflows.build --seed` writes; a new checkpoint has another one.
"""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).with_name("seed.json")
TRIED = range(1, 9)


def shipped_seed() -> int:
    return json.loads(FILE.read_text())["seed"]


def choose_seed(prompt: str, audio_prompt: str) -> None:
    """Make a clip with each seed and keep the one whose events and lag agree best; what was measured is kept too."""
    from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
    from harmony_core.sync.measure import SyncReport, measure

    pipeline = HarmonyPipeline.from_file()

    def report(seed: int) -> SyncReport:
        clip = pipeline(GenerateRequest(prompt=prompt, audio_prompt=audio_prompt, seed=seed))
        return measure(clip.frames, clip.fps, clip.samples, clip.sample_rate)

    measured = {seed: report(seed) for seed in TRIED}
    best = max(measured, key=lambda seed: _goodness(measured[seed]))
    table = {
        str(seed): {"lag_ms": each.lag_ms, "lag_confidence": each.lag_confidence, "av_align": each.av_align}
        for seed, each in measured.items()
    }
    FILE.write_text(json.dumps({"seed": best, "measured": table}, indent=1) + "\n")


def _goodness(report: object) -> tuple[float, float, float]:
    """First events that meet, then a small lag, then how clear it is."""
    lag = float("inf") if report.lag_ms is None else abs(report.lag_ms)
    return report.av_align or 0.0, -lag, report.lag_confidence
