"""Wan2.2-TI2V-5B: recorded outputs of its own code, ComfyUI's and diffusers', and diffusers live."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from harmony_core.checkpoints.files import load_transformer, open_model
from harmony_core.checkpoints.layout import check_keys, recognise
from harmony_core.checkpoints.sizes import config_from_shapes
from harmony_core.checkpoints.transfer import transfer
from harmony_core.config import HarmonyConfig
from harmony_core.model import HarmonyTransformer
from harmony_core.model.initialize import initialize
from harmony_core.model.inputs import AudioInput, VideoInput
from harmony_core.presets import preset

FIXTURES = Path(os.environ.get("HARMONY_FIXTURES", Path(__file__).parents[1] / "fixtures"))
OWN_FIXTURES = Path(__file__).parents[1] / "fixtures"
WAN = FIXTURES / "wan22"
LAYOUTS = ("original", "diffusers")
# diffusers' own time embedding rounds in float32: its recorded outputs are 1.2e-5 from Wan's.
TOLERANCES = {"wan": 1e-5, "comfy": 1e-5, "diffusers": 2e-5}
INPUTS, OUTPUTS = load_file(WAN / "inputs.safetensors"), load_file(WAN / "outputs.safetensors")


def wan_config() -> HarmonyConfig:
    recorded = json.loads((WAN / "meta.json").read_text())["config"]
    same = ("dim", "ffn_dim", "num_heads", "num_layers", "freq_dim", "text_dim", "text_len", "eps")
    return preset("wan2.2-ti2v-5b").with_(
        **{name: recorded[name] for name in same},
        video_channels=recorded["in_dim"],
        patch_size=tuple(recorded["patch_size"]),
    )


def load(layout: str, dtype: torch.dtype = torch.float32) -> HarmonyTransformer:
    return load_transformer(WAN / f"weights_{layout}.safetensors", dtype, config=wan_config())[1]


def case_inputs(case: str) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, text and sigmas per latent frame, in float64, of one recorded case.

    A case without a time of its own (the padded sequence) was run with a clean first frame.
    """
    latents, context = (INPUTS.get(f"{name}.{case}", INPUTS[name]) for name in ("x", "ctx"))
    frames = latents.shape[1]
    t = INPUTS.get(f"t.{case}", INPUTS["t.tokens_first_clean"]).double().flatten()
    per_frame = t.expand(frames) if t.numel() == 1 else t.view(frames, -1)[:, 0]
    if t.numel() > 1:
        assert torch.equal(t, per_frame.repeat_interleave(t.numel() // frames))
    return latents, context, per_frame / 1000


@torch.no_grad()
def velocity(model: HarmonyTransformer, case: str, dtype: torch.dtype = torch.float32) -> Tensor:
    latents, context, sigma = case_inputs(case)
    return model(VideoInput(latents[None].to(dtype), sigma[None], context[None].to(dtype)))[0][0].float()


def relative_rms(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_recorded_cases_in_float32(layout: str) -> None:
    model = load(layout)
    assert len(OUTPUTS) >= 4
    for name, expected in OUTPUTS.items():
        origin, case = name.split(".", 1)
        assert (velocity(model, case) - expected).abs().max() < TOLERANCES[origin], name


def test_recorded_cases_in_bfloat16() -> None:
    model = load("original", torch.bfloat16)
    for name, expected in OUTPUTS.items():
        assert relative_rms(velocity(model, name.split(".", 1)[1], torch.bfloat16), expected) < 0.03, name


def test_a_wrong_norm_would_be_seen() -> None:
    """The classic mistake: Wan's affine norm3 is diffusers' norm2. Its values matter to the outputs compared above."""
    model, case = load("original"), next(iter(OUTPUTS)).split(".", 1)[1]
    before = velocity(model, case)
    model.blocks[0].norm3.weight.copy_(torch.ones_like(model.blocks[0].norm3.weight))
    assert (velocity(model, case) - before).abs().max() > 1e-3


def test_diffusers_live() -> None:
    diffusers = pytest.importorskip("diffusers")
    recorded = json.loads((WAN / "meta.json").read_text())["config"]
    theirs = diffusers.WanTransformer3DModel(
        patch_size=tuple(recorded["patch_size"]),
        num_attention_heads=recorded["num_heads"],
        attention_head_dim=recorded["dim"] // recorded["num_heads"],
        in_channels=recorded["in_dim"],
        out_channels=recorded["out_dim"],
        text_dim=recorded["text_dim"],
        freq_dim=recorded["freq_dim"],
        ffn_dim=recorded["ffn_dim"],
        num_layers=recorded["num_layers"],
    ).eval()
    theirs.load_state_dict(load_file(WAN / "weights_diffusers.safetensors"))
    generator = torch.Generator().manual_seed(3)
    video = torch.randn(2, recorded["in_dim"], 2, 6, 4, generator=generator)
    context = torch.randn(2, recorded["text_len"], recorded["text_dim"], generator=generator)
    t = torch.tensor([96.0, 3.0])  # small, where diffusers' float32 sinusoid is exact enough
    with torch.no_grad():
        expected = theirs(video, t, context, return_dict=False)[0]
        found, _ = load("diffusers")(VideoInput(video, (t.double() / 1000)[:, None].expand(2, 2), context))
    assert (found - expected).abs().max() < 1e-5


def real_keys() -> dict[str, str]:
    """Original -> diffusers name of every key of the real, 30-layer model."""
    two_layers = json.loads((OWN_FIXTURES / "wan22" / "keymap_original_to_diffusers.json").read_text())
    keys = {}
    for original, renamed in two_layers.items():
        if original.startswith("blocks.1."):
            continue
        for layer in range(30 if original.startswith("blocks.0.") else 1):
            numbered = (name.replace("blocks.0.", f"blocks.{layer}.", 1) for name in (original, renamed))
            keys.update([tuple(numbered)])
    return keys


@pytest.mark.parametrize("layout", ["wan", "wan-diffusers", "comfyui"])
def test_every_key_of_the_real_model_maps(layout: str) -> None:
    """Shapes are those of Ovi's video stream, which has Wan2.2's own besides its fusion."""
    ovi = json.loads((OWN_FIXTURES / "ovi" / "keys_real_ovi11b.json").read_text())
    source_name = {
        "wan": lambda original, _: original,
        "wan-diffusers": lambda _, renamed: renamed,
        "comfyui": lambda original, _: "model.diffusion_model." + original,
    }[layout]
    shapes = {}
    for original, renamed in real_keys().items():
        nested = original.replace(".modulation", ".modulation.modulation") if "blocks" in original else original
        shapes[source_name(original, renamed)] = tuple(ovi["video_model." + nested])
    assert len(shapes) == 825
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 4_999_787_712

    keys = recognise(shapes, "real")
    assert keys.layout.name == layout.replace("comfyui", "wan")
    mapped = {target: shapes[source] for target, source in keys.sources.items()}
    config = config_from_shapes(mapped, keys.layout, "real")
    assert config == preset("wan2.2-ti2v-5b")
    model = HarmonyTransformer(config, device="meta")
    check_keys({key: tuple(value.shape) for key, value in model.state_dict().items()}, mapped, "real", "Wan")


def test_harmony_starts_as_wan_bit_for_bit() -> None:
    config = wan_config().with_(audio=True, interaction="framewise", style_alignment=True)
    harmony = HarmonyTransformer(config)
    initialize(harmony, torch.Generator().manual_seed(0))
    origin = transfer(harmony, open_model(WAN / "weights_diffusers.safetensors", wan_config()))
    assert origin["video"].startswith("all ")
    assert origin["audio"] == "its own first weights: the file has none"
    case = next(iter(OUTPUTS)).split(".", 1)[1]
    latents, context, sigma = case_inputs(case)
    audio = torch.randn(1, 20, 9)
    with torch.no_grad():
        found, heard = harmony(
            VideoInput(latents[None], sigma[None], context[None]),
            AudioInput(audio, torch.full((1, 9), 0.5), torch.randn(1, 5, 40)),
        )
    assert torch.equal(found[0], velocity(load("original"), case))
    assert heard.shape == audio.shape


def test_initialising_from_another_size_names_the_key() -> None:
    model = HarmonyTransformer(wan_config().with_(ffn_dim=128))
    with pytest.raises(ValueError, match=r"blocks\.0\.ffn\.0\.bias is \[128\] here and \[160\] there"):
        transfer(model, open_model(WAN / "weights_original.safetensors", wan_config()))
