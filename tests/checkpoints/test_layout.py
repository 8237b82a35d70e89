"""What happens to files that are nearly, or not at all, a known layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harmony_core.checkpoints import CheckpointError
from harmony_core.checkpoints.layout import FIELDS, LAYOUTS, map_keys, recognise, rename
from harmony_core.checkpoints.sizes import config_from_shapes
from harmony_core.model import HarmonyTransformer
from harmony_core.presets import preset

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOY = {"dim": 128, "ffn_dim": 160, "num_heads": 1, "num_layers": 2, "text_dim": 40}


def shapes_of(model: HarmonyTransformer) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def wan_shapes() -> dict[str, tuple[int, ...]]:
    return shapes_of(HarmonyTransformer(preset("wan2.2-ti2v-5b").with_(**TOY), device="meta"))


def test_the_published_harmony_keys_are_one_layout() -> None:
    committed = json.loads((FIXTURES / "keys_harmony_5b.json").read_text())
    shapes = {key: tuple(shape) for key, shape in committed.items()}
    keys = recognise(shapes, "harmony-5b")
    assert keys.layout.name == "harmony"
    assert keys.sources == {key: key for key in shapes}
    assert config_from_shapes(shapes, keys.layout, "harmony-5b") == preset("harmony-5b")


def test_rules_use_known_fields_and_no_key_twice(wan_shapes: dict) -> None:
    for layout in LAYOUTS:
        sources, _ = map_keys(layout.rules, wan_shapes)
        assert len(set(sources.values())) == len(sources)
    assert set(FIELDS) >= {"n", "p"}


def test_an_unknown_key_is_named_with_the_nearest_layout(wan_shapes: dict) -> None:
    keys = [*wan_shapes, "blocks.0.cross_attn.k_img.weight"]
    with pytest.raises(CheckpointError, match=r"nearest is Wan2\.2-TI2V-5B in its original .* 1 unexpected, first bl"):
        recognise(keys, "i2v.safetensors")


def test_a_needed_key_that_is_missing_is_named(wan_shapes: dict) -> None:
    with pytest.raises(CheckpointError, match=r"^cut has no layout .* 1 missing, first head\.modulation\.$"):
        recognise([key for key in wan_shapes if key != "head.modulation"], "cut")


def test_a_foreign_file_names_its_first_keys() -> None:
    keys = ["double_blocks.0.img_attn.qkv.weight", "double_blocks.0.img_attn.qkv.bias"]
    with pytest.raises(CheckpointError, match=r"2 unexpected, first double_blocks\.0\.img_attn\.qkv\.weight, double"):
        recognise(keys, "flux")


def test_a_comfyui_prefix_is_taken_off_and_other_parts_left_out(wan_shapes: dict) -> None:
    keys = ["model.diffusion_model." + key for key in wan_shapes]
    found = recognise([*keys, "vae.conv1.weight", "text_encoders.umt5.x"], "all in one")
    assert found.sources == {key: "model.diffusion_model." + key for key in wan_shapes}
    with pytest.raises(CheckpointError, match="1 unexpected, first stray"):
        recognise([*keys, "stray"], "x")


def test_scales_go_with_their_weights(wan_shapes: dict) -> None:
    for suffix in ("weight_scale", "scale_weight"):
        found = recognise([*wan_shapes, f"blocks.0.ffn.0.{suffix}", "scaled_fp8", "blocks.0.ffn.0.comfy_quant"], "x")
        assert found.scales == {"blocks.0.ffn.0.weight": f"blocks.0.ffn.0.{suffix}"}
        assert set(found.sources) == set(wan_shapes)
    with pytest.raises(CheckpointError, match=r"scale for blocks\.7\.ffn\.0\.weight, but not that weight"):
        recognise([*wan_shapes, "blocks.7.ffn.0.weight_scale"], "x")


def test_renamed_files_keep_what_quantised_layers_need() -> None:
    old = {
        "video_model.patch_embedding.weight": 1,
        "video_model.head.modulation": 2,
        "audio_model.head.modulation": 3,
        "video_model.blocks.0.ffn.0.weight": 4,
        "video_model.blocks.0.ffn.0.scale_weight": 5,
        "video_model.blocks.0.ffn.0.scale_input": 6,
        "video_model.blocks.0.modulation.modulation": 7,
        "scaled_fp8": 8,
    }
    expected = {
        "patch_embedding.weight": 1,
        "head.modulation": 2,
        "audio.head.modulation": 3,
        "blocks.0.ffn.0.weight": 4,
        "blocks.0.ffn.0.scale_weight": 5,
        "blocks.0.ffn.0.scale_input": 6,
        "blocks.0.modulation": 7,
        "scaled_fp8": 8,
    }
    assert rename(old, recognise(old, "x")) == expected
    prefixed = {"model.diffusion_model." + key: value for key, value in expected.items()}
    prefixed |= {"vae.conv1.weight": 9, "model.diffusion_model.harmony_config": 10}
    assert rename(prefixed, recognise(prefixed, "x")) == expected
