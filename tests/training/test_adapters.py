"""LoRA adapters: what they are on, what they leave alone, and that the file is what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harmony_core.checkpoints.lora import apply_lora, writes_audio
from harmony_core.checkpoints.transfer import branch_of
from harmony_core.model import HarmonyTransformer
from harmony_core.training.adapters import LoraConfig, add_lora, save_lora
from tests.model.test_transformer import call, inputs, random_model, small_config

CONFIG = small_config()


def trained(targets: str) -> tuple[HarmonyTransformer, HarmonyTransformer]:
    """A model, and the same with adapters after three steps."""
    plain, model = random_model(CONFIG), random_model(CONFIG)
    model.load_state_dict(plain.state_dict())
    torch.manual_seed(0)
    add_lora(model, LoraConfig(rank=3, alpha=6, targets=targets))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.05)
    for _ in range(3):
        video, audio = call(model, **inputs(CONFIG, batch=2))
        (video.square().mean() + audio.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return plain, model


def key_of(name: str) -> str:
    return name.removeprefix("diffusion_model.").removesuffix(".alpha").split(".lora_")[0] + ".weight"


@pytest.mark.parametrize("targets", ["video", "audio", "interactions", "all"])
def test_what_is_not_a_target_stays_as_it_was(tmp_path: Path, targets: str) -> None:
    plain, model = trained(targets)
    before = plain.state_dict()
    for name, value in model.state_dict().items():
        if ".lora_" not in name:
            assert torch.equal(value, before[name.replace(".base_layer", "")])
    save_lora(tmp_path / "lora.safetensors", model, {})
    branches = {branch_of(key_of(name)) for name in load_file(tmp_path / "lora.safetensors")}
    wanted = {"all": {"video", "audio", "speech", "interactions"}, "audio": {"audio", "speech"}}
    assert branches == wanted.get(targets, {targets})


def test_a_lora_for_video_holds_no_audio_key(tmp_path: Path) -> None:
    _, model = trained("video")
    save_lora(tmp_path / "lora.safetensors", model, {})
    names = load_file(tmp_path / "lora.safetensors")
    assert names
    assert not any(writes_audio(key_of(name)) for name in names)


def test_a_file_on_a_model_is_the_model_that_was_trained(tmp_path: Path) -> None:
    plain, model = trained("all")
    path = tmp_path / "lora.safetensors"
    save_lora(path, model, {"trained": "here"})
    with torch.no_grad():
        before, wanted = call(plain, **inputs(CONFIG, batch=2)), call(model.eval(), **inputs(CONFIG, batch=2))
        apply_lora(plain, path)
        for found, other, old in zip(call(plain, **inputs(CONFIG, batch=2)), wanted, before, strict=True):
            torch.testing.assert_close(found, other, atol=1e-5, rtol=1e-4)
            assert (found - old).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "lora.rank is 0"),
        ({"alpha": float("inf")}, "lora.alpha is inf"),
        ({"dropout": 1.0}, "lora.dropout is 1"),
        ({"targets": "sound"}, "lora.targets is 'sound', but must be one of all, video, audio, interactions"),
    ],
)
def test_a_setting_that_cannot_be(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraConfig(**values)


def test_a_model_without_the_target_is_refused() -> None:
    video_only = random_model(small_config(audio=False, interaction="none", speech=None))
    with pytest.raises(ValueError, match="is audio, but this model has no such layers"):
        add_lora(video_only, LoraConfig(targets="audio"))
