"""HarmonyTransformer: shapes, roles, isolation, caches, batch safety, and parity with Wan2.2 and Ovi."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harmony_core.config import HarmonyConfig, SpeechConfig
from harmony_core.model import HarmonyTransformer
from harmony_core.model.driver_cache import DriverCache
from harmony_core.model.initialize import initialize
from harmony_core.model.inputs import AudioInput, Rows, VideoInput
from harmony_core.presets import preset

FIXTURES = Path(__file__).parents[1] / "fixtures"


def small_config(**changes) -> HarmonyConfig:
    values = {
        "dim": 48,
        "ffn_dim": 64,
        "num_heads": 4,
        "num_layers": 3,
        "freq_dim": 32,
        "text_dim": 16,
        "text_len": 6,
        "video_channels": 5,
        "audio_channels": 3,
        "speech": SpeechConfig(vocab="letters", vocab_size=28, max_len=7, dim=16, num_blocks=1),
        "fps": "12.5",
        "audio_latent_rate": "25",
        "spatial_stride": 8,
    }
    return HarmonyConfig(**(values | changes))


def random_model(config: HarmonyConfig, seed: int = 0) -> HarmonyTransformer:
    """Every parameter random, so that nothing zero-initialised hides an error."""
    model = HarmonyTransformer(config)
    generator = torch.Generator().manual_seed(seed)
    initialize(model, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def inputs(config: HarmonyConfig, batch: int, seed: int = 1, num_reference: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    values = {
        "video": draw(batch, config.video_channels, 3, 4, 6),
        "audio": draw(batch, config.audio_channels, 18),
        "sigma_video": torch.rand(batch, 3, generator=generator),
        "sigma_audio": torch.rand(batch, 18, generator=generator),
        "video_context": draw(batch, 5, config.text_dim),
        "audio_context": draw(batch, 4, config.text_dim),
        "transcript": torch.tensor([[3, 1, 9, 0, 0, 0, 0]]).repeat(batch, 1),
    }
    if num_reference:
        values["reference_audio"] = draw(batch, config.audio_channels, num_reference)
    return values


def call(
    model: HarmonyTransformer,
    video: torch.Tensor,
    audio: torch.Tensor,
    sigma_video: torch.Tensor,
    sigma_audio: torch.Tensor,
    video_context: torch.Tensor,
    audio_context: torch.Tensor,
    transcript: torch.Tensor | None = None,
    reference_audio: torch.Tensor | None = None,
    reference_image: torch.Tensor | None = None,
    **rows,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The model on the flat names of `inputs`; `rows` are fields of `Rows`."""
    picture = VideoInput(video, sigma_video, video_context, reference_image)
    return model(picture, AudioInput(audio, sigma_audio, audio_context, transcript, reference_audio), Rows(**rows))


GLOBAL = {"interaction": "global", "rope_alignment": "ovi", "speech": None, "style_alignment": False}


@pytest.mark.parametrize(
    "changes",
    [{"rope_alignment": "index"}, {"rope_alignment": "timestamp"}, {"style_pooling": "frame"}, GLOBAL],
    ids=["index", "timestamp", "pooled", "global"],
)
def test_shapes_and_finiteness(changes: dict):
    config = small_config(**changes)
    values = inputs(config, batch=2)
    if config.interaction == "global":
        values = {name: value for name, value in values.items() if name not in ("transcript", "reference_audio")}
    with torch.no_grad():
        video, audio = call(random_model(config), **values)
    assert video.shape == values["video"].shape
    assert audio.shape == values["audio"].shape
    assert video.isfinite().all()
    assert audio.isfinite().all()


def test_rows_of_a_batch_do_not_see_each_other():
    config = small_config()
    model, values = random_model(config), inputs(config, batch=4)
    roles = ("joint", "audio_given", "video_given", "isolated")
    with torch.no_grad():
        together = call(model, **values, roles=roles)
        for row, role in enumerate(roles):
            alone = call(model, **{name: value[row : row + 1] for name, value in values.items()}, roles=(role,))
            for one, all_rows in zip(alone, together, strict=True):
                torch.testing.assert_close(one[0], all_rows[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("role", "changed", "deaf"),
    [("audio_given", "video", 1), ("video_given", "audio", 0), ("isolated", "video", 1), ("isolated", "audio", 0)],
)
def test_an_isolated_stream_hears_nothing(role: str, changed: str, deaf: int):
    config = small_config()
    model, values = random_model(config), inputs(config, batch=1)
    other = dict(values, **{changed: values[changed] + 1})
    with torch.no_grad():
        before, after = call(model, **values, roles=(role,)), call(model, **other, roles=(role,))
        joint_before, joint_after = call(model, **values), call(model, **other)
    torch.testing.assert_close(before[deaf], after[deaf], atol=0, rtol=0)
    assert (joint_before[deaf] - joint_after[deaf]).abs().max() > 1e-3


def test_driver_cache_is_exact():
    config = small_config()
    model, values = random_model(config), inputs(config, batch=3)
    keys = {"roles": ("joint", "audio_given", "video_given"), "drivers": (None, "mute", "static")}
    cache = DriverCache()
    with torch.no_grad():
        live = call(model, **values, roles=keys["roles"])
        call(model, **values, **keys, cache=cache)
        cached = call(model, **values, **keys, cache=cache)
    torch.testing.assert_close(cached[0][:2], live[0][:2], atol=1e-6, rtol=0)
    torch.testing.assert_close(cached[1][::2], live[1][::2], atol=1e-6, rtol=0)
    assert cached[0][2].abs().max() == 0, "a cached driver is not run"
    assert cached[1][1].abs().max() == 0


def test_style_alignment_brings_the_video_to_the_reference_only():
    """With the frame-wise attention's outputs at zero, video reaches the target audio only through the reference."""
    config = small_config()
    model = random_model(config)
    with torch.no_grad():
        for interaction in model.interactions:
            for direction in (interaction.a2v, interaction.v2a):
                direction.o.weight.zero_()
                direction.o.bias.zero_()
        with_reference, without = inputs(config, 1), inputs(config, 1, num_reference=0)
        changes = []
        for values in (with_reference, without):
            other = dict(values, video=values["video"] + 1)
            changes.append((call(model, **values)[1] - call(model, **other)[1]).abs().max())
    assert changes[0] > 1e-4
    assert changes[1] == 0


def test_interaction_is_local():
    """A change in the last audio latent reaches only video frames whose window holds it, through one layer."""
    config = small_config(num_layers=1, a2v_window=0, speech=None)
    model = random_model(config)
    values = {name: value for name, value in inputs(config, 1, num_reference=0).items() if name != "transcript"}
    with torch.no_grad():
        model.audio.blocks[0].self_attn.o.weight.zero_()  # self-attention would spread the change over time
        moved = values["audio"].clone()
        moved[:, :, -1] += 1
        change = (call(model, **values)[0] - call(model, **dict(values, audio=moved))[0]).abs().amax(dim=(0, 1, 3, 4))
    assert change[-1] > 1e-4
    assert change[0] < 1e-6


def test_every_parameter_gets_a_gradient_with_and_without_reference():
    config = small_config()
    for num_reference in (0, 2):
        model = random_model(config)
        video, audio = call(model, **inputs(config, 2, num_reference=num_reference))
        (video.square().sum() + audio.square().sum()).backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_fresh_interaction_changes_nothing():
    """Zero-initialised outputs: a fresh model's video equals the same model without interaction."""
    config = small_config()
    joint = HarmonyTransformer(config)
    initialize(joint, torch.Generator().manual_seed(0))
    alone = HarmonyTransformer(small_config(interaction="none"))
    alone.load_state_dict({k: v for k, v in joint.state_dict().items() if not k.startswith("interactions.")})
    torch.nn.init.normal_(joint.head.head.weight)
    alone.head.head.weight.data.copy_(joint.head.head.weight.data)
    values = inputs(config, 1)
    with torch.no_grad():
        torch.testing.assert_close(call(joint, **values)[0], call(alone, **values)[0], atol=0, rtol=0)


def test_too_much_text_is_an_error_with_both_numbers():
    config = small_config()
    values = inputs(config, 1) | {"video_context": torch.zeros(1, 7, config.text_dim)}
    with pytest.raises(ValueError, match=r"7 tokens.*takes 6"):
        call(random_model(config), **values)


def test_published_layout_of_harmony_5b():
    """The key list with shapes that others build against; a change of layout must change this file knowingly."""
    with torch.device("meta"):
        model = HarmonyTransformer(preset("harmony-5b"))
    built = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert built == json.loads((FIXTURES / "keys_harmony_5b.json").read_text())
