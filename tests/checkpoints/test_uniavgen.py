"""UniAVGen: recorded outputs of its own code, case by case, and its real keys."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from harmony_core.checkpoints.errors import CheckpointError
from harmony_core.checkpoints.files import open_model
from harmony_core.checkpoints.layout import check_keys, recognise
from harmony_core.checkpoints.sizes import config_from_shapes
from harmony_core.model import HarmonyTransformer
from harmony_core.model.blocks import torch_attention
from harmony_core.model.driver_cache import DriverCache
from harmony_core.model.inputs import join_rows
from harmony_core.model.masked import MaskedGeometry
from harmony_core.model.windows import frame_weights, window_indices
from harmony_core.presets import preset
from tests.checkpoints.uniavgen_cases import (
    FIXTURES,
    META,
    OUTPUTS,
    TOLERANCES,
    case_inputs,
    case_rows,
    load,
    tokens,
    toy_config,
)

CASES = META["cases"]


def difference(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((x.float() - y).abs().max())


def relative_rms(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((x.float() - y).norm() / y.norm())


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_recorded_outputs(name: str) -> None:
    case = CASES[name]
    assert set(case) <= {
        *("video", "audio", "reference_image", "cond_video", "cond_audio", "reference_audio", "transcript", "context"),
        *("t", "video_cond", "audio_cond", "zero_con", "no_v2a", "no_a2v", "skip_layer", "what"),
    }
    expected = OUTPUTS[f"{name}.video"][:, 1:], OUTPUTS[f"{name}.audio"].T
    for dtype in (torch.float32, torch.bfloat16):
        outputs = load(dtype)(*case_inputs(case, dtype), case_rows(case))
        for output, wanted in zip(outputs, expected, strict=True):
            if dtype == torch.float32:
                assert difference(output[0], wanted) < TOLERANCES["forward_fp32_abs"]
            else:
                assert relative_rms(output[0], wanted) < TOLERANCES["forward_bf16_rel_rms"]


@torch.no_grad()
@pytest.mark.parametrize("name", sorted({key.split(".")[0] for key in OUTPUTS if ".block" in key}))
def test_recorded_states(name: str) -> None:
    model, found = load(), {}

    def keep(key: str, change=lambda x: x):
        return lambda _, __, output: found.__setitem__(key, change(output))

    for layer in range(model.config.num_layers):
        for stream, branch in zip(("video", "audio"), model.branches, strict=True):
            branch.blocks[layer].register_forward_hook(keep(f"{name}.block{layer}.{stream}"))
    for index, interaction in enumerate(model.interactions):
        interaction.a2v.register_forward_hook(keep(f"{name}.a2v{index}"))
        interaction.v2a.register_forward_hook(keep(f"{name}.v2a{index}"))
        interaction.a2v.mask_head.register_forward_hook(keep(f"{name}.face_mask{index}", lambda x: x[..., 0].sigmoid()))
    rows = case_rows(
        CASES[name] | {"no_a2v": False, "no_v2a": False}
    )  # the recorded terms are from before they are left out
    model(*case_inputs(CASES[name]), rows)
    first = {
        key: value for key, value in found.items() if key.endswith(("block0.video", "block0.audio", "a2v0", "v2a0"))
    }
    model(*case_inputs(CASES[name]), case_rows(CASES[name]))
    for key, value in {**found, **first}.items():
        wanted = OUTPUTS[key]
        assert difference(value, wanted) < TOLERANCES["block_fp32_rel_to_max"] * float(wanted.abs().max()), key


@torch.no_grad()
def test_a_batch_of_unequal_transcripts() -> None:
    names = META["batch_of_two"]
    inputs = join_rows([case_inputs(CASES[name]) for name in names])
    outputs = load()(*inputs)
    for row, name in enumerate(names):
        assert difference(outputs[0][row], OUTPUTS[f"{name}.video"][:, 1:]) < TOLERANCES["forward_fp32_abs"]
        assert difference(outputs[1][row], OUTPUTS[f"{name}.audio"].T) < TOLERANCES["forward_fp32_abs"]


@torch.no_grad()
def test_recorded_transcripts() -> None:
    recorded, model = load_file(FIXTURES / "transcript_outputs.safetensors"), load()
    encoded = []
    model.speech.proj.register_forward_pre_hook(lambda _, inputs: encoded.append(inputs[0]))
    for name in {key.split(".")[0] for key in recorded}:
        projected = model.speech(tokens(name)[None], torch.float32)
        assert difference(projected[0], recorded[f"{name}.projected"]) < TOLERANCES["transcript_fp32_abs"]
        assert difference(encoded.pop()[0], recorded[f"{name}.encoded"]) < TOLERANCES["transcript_fp32_abs"]


def test_recorded_windows() -> None:
    for name, table in load_file(FIXTURES / "windows.safetensors").items():
        kind, *lengths = name.split(".")
        num_latents, num_audio = map(int, lengths)
        if kind == "a2v":
            assert window_indices(num_latents, num_audio, 2).equal(table.long())
            continue
        latents, weights = frame_weights(num_latents, num_audio, torch.float64 if kind == "v2a" else torch.bfloat16)
        found = torch.zeros(num_audio, num_latents).scatter_add_(1, latents, weights)
        assert difference(found, table.float()) < 1e-6, name


@torch.no_grad()
@pytest.mark.parametrize("name", ["a2v", "v2a", "sync_mute", "sync_static"])
def test_an_isolated_driver_is_run_once(name: str) -> None:
    model, cache, case = load(), DriverCache(), CASES[name]
    expected = model(*case_inputs(case), case_rows(case))
    hears = 0 if case.get("no_v2a") else 1
    for _ in range(2):
        outputs = model(*case_inputs(case), case_rows(case, drivers=("given",), cache=cache))
        assert outputs[hears].equal(expected[hears])
    assert not outputs[1 - hears].any()


def test_projections_between_frames_are_the_published_formula() -> None:
    model = load()
    v2a = model.interactions[0].v2a.double().requires_grad_(True)
    video, audio = case_inputs(CASES["odd_audio"])
    geometry = MaskedGeometry.of(video, audio, model.config)
    frames, num_tokens = model.config.grid(video.latents.shape)[0], 4
    generator = torch.Generator().manual_seed(0)
    x, context = (
        torch.randn(2, length, dim, generator=generator, dtype=torch.float64, requires_grad=True)
        for length, dim in ((audio.latents.shape[2], 64), (frames * num_tokens, 96))
    )
    results = []
    for output in (
        v2a(x, v2a.keys_values(context, frames), geometry, torch_attention),
        v2a.forward_naive(x, context, geometry, torch_attention),
    ):
        results.append((output, *torch.autograd.grad(output.square().sum(), (x, context, *v2a.parameters()))))
    for fast, naive in zip(*results, strict=True):
        torch.testing.assert_close(fast, naive, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_published_rounding_moves_the_sound() -> None:
    case = CASES["odd_audio"]
    exact, rounded = (load(published_rounding=on)(*case_inputs(case), case_rows(case)) for on in (False, True))
    assert relative_rms(rounded[1][0], exact[1][0]) > 1e-4


def real_shapes() -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, (shape, _) in json.loads((FIXTURES / "keys_real.json").read_text()).items()}


def test_real_keys_map_and_nothing_is_left_over() -> None:
    shapes = real_shapes()
    keys = recognise(shapes, "the file")
    assert keys.layout.name == "uniavgen"
    assert len(keys.sources) == len(shapes)
    own = {target: shapes[source] for target, source in keys.sources.items()}
    config = config_from_shapes(own, keys.layout, "the file")
    assert config == preset("uniavgen")
    expected = HarmonyTransformer(config, device="meta").state_dict()
    check_keys({key: tuple(value.shape) for key, value in expected.items()}, own, "the file", keys.layout.title)


def test_strict_about_keys(tmp_path) -> None:
    weights = load_file(FIXTURES / "weights.safetensors")
    save_file({**weights, "a2v_blocks.0.extra": weights["audio_padding"].clone()}, tmp_path / "more.safetensors")
    with pytest.raises(CheckpointError, match=r"a2v_blocks\.0\.extra"):
        open_model(tmp_path / "more.safetensors", toy_config())
    save_file({k: v for k, v in weights.items() if k != "v2a_blocks.1.k.weight"}, tmp_path / "less.safetensors")
    with pytest.raises(CheckpointError, match=r"interactions\.1\.v2a\.k\.weight"):
        open_model(tmp_path / "less.safetensors", toy_config()).check()


def test_shards_with_an_index(tmp_path) -> None:
    weights, index = load_file(FIXTURES / "weights.safetensors"), {}
    for shard in range(2):
        name = f"diffusion_pytorch_model-0000{shard + 1}-of-00002.safetensors"
        part = {key: weights[key] for key in sorted(weights)[shard::2]}
        save_file(part, tmp_path / name)
        index |= dict.fromkeys(part, name)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    model = open_model(tmp_path, toy_config()).build()
    assert model.state_dict()["speech.proj.weight"].equal(weights["text_proj.weight"])
