"""Which stream a weight belongs to, and the names that other programs have for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harmony_core.checkpoints.lora import other_names, writes_audio

KEYS = json.loads((Path(__file__).parents[1] / "fixtures" / "keys_harmony_5b.json").read_text())


@pytest.mark.parametrize(
    ("key", "audio"),
    [
        ("blocks.0.self_attn.q.weight", False),
        ("head.modulation", False),
        ("interactions.3.a2v.o.bias", False),
        ("audio.blocks.0.self_attn.q.weight", True),
        ("speech.proj.weight", True),
        ("interactions.12.v2a.norm_k.weight", True),
        ("interactions.0.style.q.weight", True),
    ],
)
def test_streams(key: str, audio: bool) -> None:
    assert key in KEYS
    assert writes_audio(key) == audio


def test_names_elsewhere() -> None:
    names = other_names(KEYS)
    assert names["transformer.blocks.7.attn2.to_out.0"] == "blocks.7.cross_attn.o.weight"
    assert names["diffusion_model.video_model.blocks.0.cross_attn.v_fusion"] == "interactions.0.a2v.v.weight"
    assert names["audio_model.blocks.29.ffn.2"] == "audio.blocks.29.ffn.2.weight"
    assert set(names.values()) <= set(KEYS)
