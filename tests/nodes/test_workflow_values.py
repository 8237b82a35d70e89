"""The shipped workflows ask for what the built-in checkpoint was tuned for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harmony_core.checkpoints import describe

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
CONFIG = describe("harmony-tiny")["config"]
FROM_CONFIG = {
    "BasicScheduler": {"steps": CONFIG["steps"], "scheduler": "simple"},
    "KSamplerSelect": {"sampler_name": "euler"},
    "HarmonySyncCFG": {
        name: CONFIG[name] for name in ("video_sync_scale", "audio_sync_scale", "video_text_scale", "audio_text_scale")
    },
    "HarmonySampler": {
        name: CONFIG[name]
        for name in (
            "steps",
            "video_sync_scale",
            "audio_sync_scale",
            "video_text_scale",
            "audio_text_scale",
        )
    }
    | {"shift": 0.0},  # the checkpoint's own
    "HarmonyClip": {
        "seconds": float(CONFIG["seconds"]),
        "fps": float(CONFIG["fps"]),
        "width": CONFIG["width"],
        "height": CONFIG["height"],
    },
}


BUILT_IN = [path for path in sorted(WORKFLOWS.glob("api/*.json")) if '"HarmonyCheckpointLoader"' in path.read_text()]


@pytest.mark.parametrize("path", BUILT_IN, ids=lambda path: path.stem)
def test_values(path: Path) -> None:
    for node in json.loads(path.read_text()).values():
        expected = FROM_CONFIG.get(node["class_type"], {})
        assert {name: node["inputs"][name] for name in expected} == expected
