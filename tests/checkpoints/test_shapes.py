"""A file is what its keys and shapes say together: others have the same names, and no shape is taken on trust."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harmony_core.checkpoints import CheckpointError, load_transformer
from harmony_core.checkpoints.identify import identify
from harmony_core.checkpoints.parts import load_audio_vae, load_text_encoder, load_video_vae

MMAUDIO = Path(__file__).parents[1] / "fixtures" / "mmaudio"
Weights = dict[str, Tensor]
T5 = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight"


def zeros(shapes: dict[str, tuple[int, ...]]) -> Weights:
    return {key: torch.zeros(shape) for key, shape in shapes.items()}


def refused(call: Callable, path: Path, *arguments: object) -> str:
    """The sentence with which a file is refused: it names the file, and comes at once."""
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match=path.name.replace(".", r"\.")) as error:
        call(path, *arguments)
    assert time.perf_counter() - start < 5
    return str(error.value)


@pytest.mark.parametrize("axes", [0, 1, 2, 4])
@pytest.mark.parametrize(
    "keys",
    [
        ("decoder.conv_in.weight", "encoder.conv_in.weight", "post_quant_conv.weight"),  # diffusers' names, SDXL's too
        ("decoder.conv1.weight", "encoder.conv1.weight", "conv2.weight"),
    ],
)
def test_another_autoencoder_is_not_wans(tmp_path: Path, keys: tuple[str, ...], axes: int) -> None:
    path = tmp_path / "vae.safetensors"
    save_file(zeros(dict.fromkeys(keys, (48, 48, 1, 1)[:axes])), path)
    assert "no layout that is known here" in refused(identify, path)
    shape = r"[48, 48, 1, 1]" if axes == 4 else str([48, 48, 1, 1][:axes])
    assert f"{keys[2]} {shape} instead of [48, 48, 1, 1, 1]" in refused(load_video_vae, path)


def test_wans_older_autoencoder_is_refused_by_its_channels(parts: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "wan21.safetensors"
    save_file({**load_file(parts["video_vae"]), "post_quant_conv.weight": torch.zeros(16, 16, 1, 1, 1)}, path)
    assert "post_quant_conv.weight [16, 16, 1, 1, 1] instead of [48, 48, 1, 1, 1]" in refused(load_video_vae, path)
    assert "no layout that is known here" in refused(identify, path)


@pytest.mark.parametrize("last", ["1", "999999999", "9" * 500])
def test_t5_is_not_umt5(parts: dict[str, Path], tmp_path: Path, last: str) -> None:
    """T5 has a table of distances in its first block alone; a block of a large number costs nothing."""
    path, weights = tmp_path / "t5.safetensors", load_file(parts["text_encoder"])
    found = {key: value for key, value in weights.items() if key != T5.format(1)}
    assert len(found) == len(weights) - 1
    save_file({**found, f"encoder.block.{last}.x.weight": torch.zeros(1)}, path)
    assert "no layout that is known here" in refused(identify, path)
    assert "relative_attention_bias" in refused(load_text_encoder, path, parts["tokenizer"])


def test_blocks_without_a_gap(parts: dict[str, Path], tmp_path: Path) -> None:
    path, weights = tmp_path / "wan.safetensors", load_file(parts["wan"])
    gap = {key.replace("blocks.1.", "blocks.7."): value for key, value in weights.items()}
    save_file(gap, path)
    assert "a block blocks.7, but blocks must be numbered from 0 without a gap" in refused(load_transformer, path)
    save_file({**weights, "blocks.999999999.norm3.weight": torch.zeros(1)}, path)
    assert "1 unexpected, first blocks.999999999.norm3.weight" in refused(load_transformer, path)
    gap = {key: value for key, value in load_file(parts["text_encoder"]).items() if ".block.0." not in key}
    save_file(gap, path)
    assert "block.0" in refused(load_text_encoder, path, parts["tokenizer"])


@pytest.mark.parametrize("key", ["patch_embedding.weight", "time_embedding.0.weight", "blocks.0.ffn.0.weight"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 0)])
def test_sizes_of_other_shapes(parts: dict[str, Path], tmp_path: Path, key: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / "wan.safetensors"
    save_file({**load_file(parts["wan"]), key: torch.zeros(shape)}, path)
    refused(load_transformer, path)
    refused(identify, path)


def test_sizes_that_no_model_has(parts: dict[str, Path], tmp_path: Path) -> None:
    """Tensors without values can claim any size."""
    path = tmp_path / "wide.safetensors"
    wide = {"patch_embedding.weight": torch.zeros(128 * 10**9, 48, 0, 2, 2)}
    save_file(load_file(parts["wan"]) | wide, path)
    assert "dim is 128000000000, but must be at most" in refused(load_transformer, path)


@pytest.mark.parametrize("shape", [(), (3,), (1, 80)])
@pytest.mark.parametrize("key", ["data_mean", "encoder.conv_in.weight", "encoder.conv_out.weight"])
def test_audio_autoencoders_of_other_shapes(tmp_path: Path, key: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / "audio.safetensors"
    save_file({**load_file(MMAUDIO / "vae_weights_folded.safetensors"), key: torch.zeros(shape)}, path)
    vocoder = MMAUDIO / "vocoder_weights_folded.safetensors"
    assert f"{key} {list(shape)}" in refused(lambda each: load_audio_vae([each, vocoder]), path)
    refused(identify, path)


def test_any_encoder_and_decoder_is_not_mmaudios(tmp_path: Path) -> None:
    path = tmp_path / "any.safetensors"
    save_file(zeros({"encoder.a.weight": (2,), "decoder.b.weight": (2,)}), path)
    assert "no layout that is known here" in refused(identify, path)


@pytest.mark.parametrize("shape", [(), (4,)])
def test_lora_keys_without_a_matrix_are_no_lora(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "lora.safetensors"
    save_file(zeros({"blocks.0.lora_A.weight": shape, "blocks.0.lora_B.weight": shape}), path)
    assert f"has shape {list(shape)}, but must be a matrix of a LoRA" in refused(identify, path)
    save_file(zeros({"blocks.0.lora_A.weight": (4, 8), "unet.weight": (4,)}), path)
    assert "no layout that is known here" in refused(identify, path)


@pytest.mark.parametrize("call", [identify, load_transformer])
def test_deep_and_long_settings(tmp_path: Path, call: Callable) -> None:
    path = tmp_path / "deep.safetensors"
    deep = torch.frombuffer(bytearray(b"[" * 9000), dtype=torch.uint8)
    save_file({"a.weight": torch.zeros(4), "a.comfy_quant": deep}, path)
    assert "a.comfy_quant is no JSON" in refused(call, path)
    save_file({"a.weight": torch.zeros(4), "harmony_config": deep}, path)
    assert "no layout that is known here" in refused(call, path)
    save_file({"a.weight": torch.zeros(4)}, path, {"config": "[" * 9000})
    assert "no layout that is known here" in refused(call, path)
    save_file({"a.weight": torch.zeros(4), "a.comfy_quant": torch.zeros(2**20 + 1, dtype=torch.uint8)}, path)
    assert "a.comfy_quant has 1048577 values, but settings have at most 1048576" in refused(call, path)


def test_info_names_a_packed_format(parts: dict[str, Path], tmp_path: Path) -> None:
    weights, settings = load_file(parts["wan"]), json.dumps({"format": "int8_tensorwise"}).encode()
    key = "blocks.0.ffn.0.weight"
    told = {"blocks.0.ffn.0.comfy_quant": torch.frombuffer(bytearray(settings), dtype=torch.uint8)}
    save_file({**weights, **told, key: weights[key].to(torch.int8)}, tmp_path / "int8.safetensors")
    facts = identify(tmp_path / "int8.safetensors")
    assert facts["for"] == "Harmony Model Loader in ComfyUI, which computes with int8_tensorwise"
    assert facts["config"]["dim"] == 128
