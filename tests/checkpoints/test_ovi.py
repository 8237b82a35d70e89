"""Ovi: recorded outputs of its own code, block by block, in one file and split."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harmony_core.checkpoints.files import load_transformer
from harmony_core.checkpoints.layout import check_keys, recognise
from harmony_core.checkpoints.sizes import config_from_shapes
from harmony_core.config import HarmonyConfig
from harmony_core.model import HarmonyTransformer
from harmony_core.model.inputs import AudioInput, Rows, VideoInput
from harmony_core.presets import preset

FIXTURES = Path(os.environ.get("HARMONY_FIXTURES", Path(__file__).parents[1] / "fixtures"))
OWN_FIXTURES = Path(__file__).parents[1] / "fixtures"
OVI = FIXTURES / "ovi"
META = json.loads((OVI / "meta.json").read_text())
INPUTS, OUTPUTS = load_file(OVI / "inputs.safetensors"), load_file(OVI / "outputs.safetensors")
CASE_SETTINGS = {"t", "ctxv", "ctxa", "first_frame_is_clean", "slg_layer"}


class Traced(HarmonyTransformer):
    """Keeps both streams after every layer."""

    def layer(self, index, video, audio, *rest) -> None:
        super().layer(index, video, audio, *rest)
        self.trace[index] = {"video": video.x_BLD, "audio": audio.x_BLD}


def ovi_config() -> HarmonyConfig:
    recorded = META["video_config"]
    same = ("dim", "ffn_dim", "num_heads", "num_layers", "freq_dim", "text_dim", "text_len", "eps")
    return preset("ovi-11b").with_(
        **{name: recorded[name] for name in same},
        audio_ffn_conv_dim=len(load_file(OVI / "weights.safetensors")["audio_model.patch_embedding.2.w1.weight"]),
        audio_rope_scale=META["audio_config"]["temporal_rope_scaling_factor"],
    )


def load(path: Path | list[Path] = OVI / "weights.safetensors", dtype: torch.dtype = torch.float32) -> Traced:
    model = load_transformer(path, dtype, config=ovi_config())[1]
    model.__class__, model.trace = Traced, {}
    return model


def recorded_cases() -> dict[str, dict]:
    """Every recorded case in one form: times of both streams, contexts, clean first frame, skipped layers."""
    cases = {}
    for name, case in META["cases"].items():
        assert set(case) <= CASE_SETTINGS, f"{name} has settings this test does not know: {set(case) - CASE_SETTINGS}"
        cases[name] = {
            "times": (case["t"], case["t"]),
            "contexts": (case["ctxv"], case["ctxa"]),
            "clean": bool(case.get("first_frame_is_clean")),
            "skip": frozenset({case["slg_layer"]} if (case.get("slg_layer") or 0) > 0 else ()),
        }
    for name, times in META.get("split_cases", {}).items():
        cases[name] = {"times": times, "contexts": ("ctx_pos", "ctx_pos"), "clean": False, "skip": frozenset()}
    return cases


CASES = recorded_cases()


@torch.no_grad()
def run(model: Traced, name: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    case = CASES[name]
    video, audio = INPUTS["vid"][None].to(dtype), INPUTS["audio"].T[None].to(dtype)
    t_video, t_audio = (torch.tensor(float(t), dtype=torch.float64) for t in case["times"])
    sigma_video = (t_video / 1000).repeat(1, video.shape[2])
    if case["clean"]:
        sigma_video[:, 0] = 0
    context_video, context_audio = (INPUTS[context][None].to(dtype) for context in case["contexts"])
    model.trace.clear()
    out_v, out_a = model(
        VideoInput(video, sigma_video, context_video),
        AudioInput(audio, (t_audio / 1000).repeat(1, audio.shape[2]), context_audio),
        Rows(skip_layers=case["skip"]),
    )
    return {"video": out_v[0].float(), "audio": out_a[0].T.float()}


@pytest.fixture(scope="module")
def model() -> Traced:
    return load()


@pytest.mark.parametrize("name", CASES)
def test_recorded_case_in_float32(model: Traced, name: str) -> None:
    found = run(model, name)
    for side in ("video", "audio"):
        assert (found[side] - OUTPUTS[f"{name}.{side}"]).abs().max() < 1e-5, side


@pytest.mark.parametrize("name", CASES)
def test_recorded_case_in_bfloat16(name: str) -> None:
    found = run(load(dtype=torch.bfloat16), name, torch.bfloat16)
    for side in ("video", "audio"):
        expected = OUTPUTS[f"{name}.{side}"]
        error = (found[side] - expected).square().mean().sqrt() / expected.square().mean().sqrt()
        assert error < 0.03, side


def test_recorded_blocks(model: Traced) -> None:
    """Block outputs are larger than velocities, so the tolerance is relative to their size."""
    checked = 0
    for key, expected in OUTPUTS.items():
        parts = key.split(".")
        if len(parts) == 3:
            run(model, parts[0])
            found = model.trace[int(parts[1].removeprefix("block"))][parts[2]]
            assert (found - expected).abs().max() < 1e-5 * max(1.0, float(expected.abs().max())), key
            checked += 1
    assert checked


def test_split_files_are_the_same_model(model: Traced, tmp_path: Path) -> None:
    weights = load_file(OVI / "weights.safetensors")
    renamed = {key.replace("modulation.modulation", "modulation"): value for key, value in weights.items()}
    audio = {key: value for key, value in renamed.items() if key.startswith("audio_model.")}
    video = {key.removeprefix("video_model."): value for key, value in renamed.items() if key not in audio}
    paths = [tmp_path / "ovi_video.safetensors", tmp_path / "ovi_audio.safetensors"]
    save_file(video, paths[0])
    save_file(audio, paths[1])
    name = next(iter(CASES))
    found, expected = run(load(paths), name), run(model, name)
    assert all(torch.equal(found[side], expected[side]) for side in expected)
    with pytest.raises(ValueError, match=r"video and an audio file \(give both\): 1 missing, first audio_"):
        load(paths[0])
    with pytest.raises(ValueError, match=r"give both\): 2 missing, first patch_embedding\.weight"):
        load(paths[1])


def test_query_and_output_are_shared_not_doubled(model: Traced) -> None:
    """The fusion has keys, values and norms of its own; q, norm_q and o exist once, in the text cross-attention."""
    assert {key.split(".")[0] for key in model.interactions[0].a2v.state_dict()} == {"k", "v", "norm_ctx", "norm_k"}
    storages = {parameter.data_ptr() for parameter in model.parameters()}
    assert len(storages) == len(list(model.parameters())) == len(load_file(OVI / "weights.safetensors"))


@pytest.mark.parametrize("split", [False, True])
def test_every_key_of_the_real_model_maps(split: bool) -> None:
    real = json.loads((OWN_FIXTURES / "ovi" / "keys_real_ovi11b.json").read_text())
    shapes = {key: tuple(shape) for key, shape in real.items()}
    assert len(shapes) == 2073
    if split:
        shapes = {
            key.removeprefix("video_model.").replace("modulation.modulation", "modulation"): shape
            for key, shape in shapes.items()
        }
    keys = recognise(shapes, "real")
    assert keys.layout.name == ("ovi-split" if split else "ovi")
    mapped = {target: shapes[source] for target, source in keys.sources.items()}
    config = config_from_shapes(mapped, keys.layout, "real")
    assert config == preset("ovi-11b")
    model = HarmonyTransformer(config, device="meta")
    check_keys({key: tuple(value.shape) for key, value in model.state_dict().items()}, mapped, "real", "Ovi")
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_660_753_108
