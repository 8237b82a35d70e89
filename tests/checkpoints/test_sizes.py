"""Configs of files that store none."""

from __future__ import annotations

import pytest

from harmony_core.checkpoints import CheckpointError
from harmony_core.checkpoints.layout import recognise
from harmony_core.checkpoints.sizes import config_from_shapes
from harmony_core.config import SpeechConfig
from harmony_core.model import HarmonyTransformer
from harmony_core.presets import preset

from .test_layout import TOY, shapes_of


@pytest.fixture
def wan_shapes() -> dict[str, tuple[int, ...]]:
    return shapes_of(HarmonyTransformer(preset("wan2.2-ti2v-5b").with_(**TOY), device="meta"))


def test_harmony_sizes_are_read_from_shapes() -> None:
    speech = SpeechConfig(vocab_size=30, dim=24, num_blocks=3, conv_mult=4)
    config = preset("harmony-5b").with_(**TOY, speech=speech, freq_dim=32, audio_channels=7)
    shapes = shapes_of(HarmonyTransformer(config, device="meta"))
    keys = recognise(shapes, "toy")
    assert config_from_shapes(shapes, keys.layout, "toy") == config


def test_the_number_of_heads_is_not_guessed(wan_shapes: dict) -> None:
    layout = recognise(wan_shapes, "x").layout
    narrow = {key: tuple(96 if size == 128 else size for size in shape) for key, shape in wan_shapes.items()}
    with pytest.raises(CheckpointError, match="width 96 is no multiple of 128"):
        config_from_shapes(narrow, layout, "x")
    assert config_from_shapes(narrow, layout, "x", head_dim=32).num_heads == 3


def test_a_wan_model_of_another_kind_is_refused(wan_shapes: dict) -> None:
    wan21 = {**wan_shapes, "patch_embedding.weight": (128, 16, 1, 2, 2)}
    with pytest.raises(CheckpointError, match=r"x has 16 video channels, but Wan2\.2-TI2V-5B .* has 48"):
        config_from_shapes(wan21, recognise(wan21, "x").layout, "x")
