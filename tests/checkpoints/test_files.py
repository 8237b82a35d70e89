"""From files to a transformer: shards, quantised weights, dtypes, refusals, memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from harmony_core.checkpoints import CheckpointError
from harmony_core.checkpoints import files as files_module
from harmony_core.checkpoints.files import load_transformer, open_model
from harmony_core.checkpoints.transfer import transfer
from harmony_core.checkpoints.weight_files import Quantised, shard_set
from harmony_core.config import HarmonyConfig
from harmony_core.model import HarmonyTransformer
from harmony_core.model.initialize import initialize
from harmony_core.presets import preset

CONFIG = preset("wan2.2-ti2v-5b").with_(dim=128, ffn_dim=160, num_heads=1, num_layers=2, text_dim=40)
FP8 = torch.float8_e4m3fn


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    model = HarmonyTransformer(CONFIG)
    initialize(model, torch.Generator().manual_seed(1))
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_loads(path: Path | list[Path], weights: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> None:
    config, model = load_transformer(path, dtype)
    assert config == CONFIG
    assert not model.training
    found = model.state_dict()
    assert set(found) == set(weights)
    for key, value in weights.items():
        assert found[key].dtype == dtype
        assert torch.equal(found[key], value.to(dtype)), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
def test_one_file(weights: dict, tmp_path: Path, prefix: str, dtype: torch.dtype) -> None:
    path = tmp_path / "wan.safetensors"
    save_file({prefix + key: value for key, value in weights.items()}, path)
    assert_loads(path, weights, dtype)


def test_shards_by_their_index_or_folder(weights: dict, tmp_path: Path) -> None:
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    shards = {name: {key: weights[key] for key in list(weights)[part::2]} for part, name in enumerate(names)}
    for name, tensors in shards.items():
        save_file(tensors, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {key: name for name in names for key in shards[name]}}))
    assert_loads(index, weights)
    assert_loads(tmp_path, weights)
    assert_loads([tmp_path / name for name in names], weights)
    assert shard_set(tmp_path / names[1]) == [tmp_path / name for name in names]
    assert shard_set(index) == [index]
    (tmp_path / names[1]).unlink()
    with pytest.raises(CheckpointError, match=f"shards that are not beside it: {names[1]}"):
        shard_set(tmp_path / names[0])
    with pytest.raises(CheckpointError, match=f"shards that are not beside it: {names[1]}"):
        load_transformer(index)


def test_fp8_cast(weights: dict, tmp_path: Path) -> None:
    cast = {key: value.to(FP8) if value.ndim > 1 else value for key, value in weights.items()}
    save_file(cast, tmp_path / "fp8.safetensors")
    assert_loads(tmp_path / "fp8.safetensors", {key: value.float() for key, value in cast.items()}, torch.bfloat16)


@pytest.mark.parametrize("style", ["weight_scale", "scale_weight"])
@pytest.mark.parametrize("per_row", [False, True])
def test_scaled_fp8(weights: dict, tmp_path: Path, style: str, per_row: bool) -> None:
    tensors, expected = {}, {}
    for key, value in weights.items():
        if value.ndim != 2:
            tensors[key] = expected[key] = value
            continue
        scale = value.abs().amax(dim=1) / 448 + 1e-12 if per_row else value.abs().max() / 448 + 1e-12
        rows = scale[:, None] if per_row else scale
        layer = key.removesuffix("weight")
        tensors[key], tensors[layer + style] = (value / rows).to(FP8), scale
        expected[key] = tensors[key].float() * rows
        if style == "weight_scale":
            settings = json.dumps({"format": "float8_e4m3fn"}).encode()
            tensors[layer + "comfy_quant"] = torch.frombuffer(bytearray(settings), dtype=torch.uint8)
    if style == "scale_weight":
        tensors["scaled_fp8"] = torch.empty(0, dtype=FP8)
    path = tmp_path / "scaled.safetensors"
    save_file(tensors, path)
    assert_loads(path, expected)
    worst = max(
        float((expected[key] - weights[key]).abs().max() / (weights[key].abs().max() + 1e-9)) for key in weights
    )
    assert 0 < worst < 0.07


def test_another_quantisation_is_refused(weights: dict, tmp_path: Path) -> None:
    settings = json.dumps({"format": "nvfp4"}).encode()
    extra = {"blocks.0.ffn.0.comfy_quant": torch.frombuffer(bytearray(settings), dtype=torch.uint8)}
    save_file({**weights, **extra}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"holds blocks\.0\.ffn\.0 as nvfp4, which is not supported"):
        load_transformer(tmp_path / "x.safetensors")


@pytest.mark.parametrize("form", ["nvfp4", "int8_tensorwise", "asym_w4a8_int8", "a_later_one"])
def test_quantised_layers_are_recorded(weights: dict, tmp_path: Path, form: str) -> None:
    """Opening says which layers are kept how, and what the model is; only computing with them is refused."""
    tensors, layer = dict(weights), "text_embedding.0"
    rows, columns = weights[f"{layer}.weight"].shape
    packed = columns // 2 if form in ("nvfp4", "asym_w4a8_int8") else columns
    tensors[f"{layer}.weight"] = torch.zeros(rows, packed, dtype=torch.int8)
    for name in ("weight_scale_2", "weight_s_rel", "pre_quant_scale", "input_scale"):
        tensors[f"{layer}.{name}"] = torch.ones(2)
    settings = {"format": form, "group_size": 16}
    tensors[f"{layer}.comfy_quant"] = torch.frombuffer(bytearray(json.dumps(settings).encode()), dtype=torch.uint8)
    path = tmp_path / "packed.safetensors"
    save_file(tensors, path)
    opened = open_model(path)
    assert opened.config == CONFIG
    assert set(opened.keys.sources) == set(weights)
    beside = {"bias", "comfy_quant", "weight_scale_2", "weight_s_rel", "pre_quant_scale", "input_scale"}
    assert opened.files.quantised == {layer: Quantised(path, form, settings, frozenset(beside))}
    with pytest.raises(CheckpointError, match=rf"packed\.safetensors holds {layer} as {form}, .*Harmony Model Loader"):
        load_transformer(path)
    with pytest.raises(CheckpointError, match=f"as {form}, which is not supported outside ComfyUI"):
        transfer(HarmonyTransformer(CONFIG), open_model(path))


def test_the_metadata_may_tell_of_all_layers(weights: dict, tmp_path: Path) -> None:
    path, prefix = tmp_path / "meta.safetensors", "model.diffusion_model."
    tensors = {prefix + key: value for key, value in weights.items()}
    told = {"blocks.0.ffn.0": {"format": "nvfp4"}, prefix + "blocks.1.ffn.0": {"format": "mxfp8"}}
    save_file(tensors, path, {"_quantization_metadata": json.dumps({"layers": told})})
    forms = {name: layer.form for name, layer in open_model(path).files.quantised.items()}
    assert forms == {prefix + "blocks.0.ffn.0": "nvfp4", prefix + "blocks.1.ffn.0": "mxfp8"}
    save_file(tensors, path, {"_quantization_metadata": "[]"})
    with pytest.raises(CheckpointError, match=r"meta\.safetensors: its _quantization_metadata has no layers"):
        open_model(path)


def test_a_scale_in_another_shard(weights: dict, tmp_path: Path) -> None:
    key = "blocks.0.ffn.0.weight"
    first = {**weights, key: (weights[key] * 100).to(FP8)}
    save_file(first, tmp_path / "a.safetensors")
    save_file({f"{key}_scale": torch.tensor(0.01)}, tmp_path / "b.safetensors")
    _, model = load_transformer([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    assert torch.equal(model.state_dict()[key], first[key].float() * 0.01)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_weights_of_other_numbers(weights: dict, tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({**weights, "head.head.bias": weights["head.head.bias"].to(dtype)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"x\.safetensors holds head\.head\.bias as \w+, but weights must be one"):
        load_transformer(tmp_path / "x.safetensors")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin"])
def test_a_pickle_is_refused_unread(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"wan{suffix}"
    path.write_bytes(b"not even a pickle")
    with pytest.raises(
        CheckpointError, match=f"wan{suffix} is a pickle.*`harmony convert wan{suffix} -o wan.safetensors`"
    ):
        load_transformer(path)


def test_missing_extra_and_misshapen_weights(weights: dict, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    without = {key: value for key, value in weights.items() if key != "blocks.1.ffn.2.bias"}
    save_file(without, path)
    with pytest.raises(CheckpointError, match=r"not fit Wan2.2-TI2V-5B .*: 1 missing, first blocks\.1\.ffn\.2\.bias"):
        load_transformer(path)
    save_file({**weights, "blocks.0.norm3.bias": torch.zeros(7)}, path)
    with pytest.raises(CheckpointError, match=r"1 of another shape, first blocks\.0\.norm3\.bias \[7\] instead of \[1"):
        load_transformer(path)


def test_a_truncated_file_says_so(weights: dict, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file(weights, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"half\.safetensors cannot be read as safetensors"):
        load_transformer(path)


def test_a_tensor_in_two_files_is_an_error(weights: dict, tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_file(weights, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"is in both a\.safetensors and b\.safetensors"):
        load_transformer([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_stored_config_wins_over_shapes(tmp_path: Path, as_tensor: bool) -> None:
    config = HarmonyConfig(
        dim=48, ffn_dim=64, num_heads=2, num_layers=2, text_dim=16, text_len=8, v2a_window=3, rope_alignment="timestamp"
    )
    model = HarmonyTransformer(config)
    initialize(model, torch.Generator().manual_seed(2))
    tensors, text = dict(model.state_dict()), json.dumps({"transformer": config.to_dict()})
    path = tmp_path / "harmony.safetensors"
    if as_tensor:
        tensors["harmony_config"] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        save_file(tensors, path)
    else:
        save_file(tensors, path, metadata={"config": text})
    found, loaded = load_transformer(path)
    assert found == config
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_conversion_in_small_pieces_changes_nothing(weights: dict, tmp_path: Path, monkeypatch) -> None:
    save_file(weights, tmp_path / "wan.safetensors")
    monkeypatch.setattr(files_module, "PIECE", 1000)
    assert_loads(tmp_path / "wan.safetensors", weights, torch.bfloat16)


MEASURE = """
import resource, sys, torch
from harmony_core.checkpoints import files
from harmony_core.config import HarmonyConfig
files.PIECE = 8 * 2**20
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
large, config, tiny, tiny_config, dtype = sys.argv[1:]
dtype = getattr(torch, dtype)
files.load_transformer(tiny, dtype, config=HarmonyConfig.from_json(tiny_config))
before = peak()
_, model = files.load_transformer(large, dtype, config=HarmonyConfig.from_json(config))
sum(float(parameter.view(-1)[::512].float().sum()) for parameter in model.parameters())
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from Linux's accounting")
@pytest.mark.parametrize(("dtype", "share"), [("float32", 1.15), ("bfloat16", 0.85)])
def test_weights_are_not_held_twice(tmp_path: Path, dtype: str, share: float) -> None:
    """Peak memory against the file's size: as stored at most 1.15; float32 to bfloat16 half, and the piece in hand."""
    config = CONFIG.with_(dim=512, num_heads=4, ffn_dim=2048, num_layers=7)
    tiny_config = CONFIG.with_(dim=32, num_heads=1, ffn_dim=32, num_layers=1)
    large, tiny = tmp_path / "large.safetensors", tmp_path / "tiny.safetensors"
    for path, each in ((large, config), (tiny, tiny_config)):
        shapes = {key: value.shape for key, value in HarmonyTransformer(each, device="meta").state_dict().items()}
        save_file({key: torch.rand(shape) for key, shape in shapes.items()}, path)
    size = large.stat().st_size
    assert size > 100e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, large, config.to_json(), tiny, tiny_config.to_json(), dtype],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert int(done.stdout) <= share * size
