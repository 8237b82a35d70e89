"""Reference images and voices after the target, as DreamID-Omni places them."""

from __future__ import annotations

import pytest
import torch

from harmony_core.config import HarmonyConfig
from harmony_core.model import HarmonyTransformer
from harmony_core.model.initialize import initialize
from harmony_core.model.inputs import VideoInput
from harmony_core.model.rope import appended_audio_rope, video_rope
from harmony_core.ops.rope import rope_table
from harmony_core.presets import preset
from tests.model.test_transformer import call

TOY = {"dim": 24, "ffn_dim": 32, "num_heads": 2, "num_layers": 2, "freq_dim": 16, "text_dim": 8, "text_len": 4}
SCALE = 0.197265625


def build(name: str) -> HarmonyTransformer:
    config = preset(name).with_(**TOY, audio_ffn_conv_dim=16, audio_rope_scale=SCALE)
    model = HarmonyTransformer(config)
    generator = torch.Generator().manual_seed(0)
    initialize(model, generator)
    for name, parameter in model.named_parameters():
        if "head.head" in name:
            parameter.data.normal_(generator=generator)
    return model.requires_grad_(False)


def inputs(frames: int, num_audio: int, sigma: float = 0.7) -> dict[str, torch.Tensor]:
    video, audio = torch.randn(1, 48, frames, 2, 4), torch.randn(1, 20, num_audio)
    sigmas = torch.full((1, frames), sigma), torch.full((1, num_audio), sigma)
    return {
        "video": video,
        "audio": audio,
        "sigma_video": sigmas[0],
        "sigma_audio": sigmas[1],
        "video_context": torch.randn(1, 4, 8),
        "audio_context": torch.randn(1, 4, 8),
    }


def config() -> HarmonyConfig:
    return preset("dreamid-omni").with_(**TOY)


def test_positions() -> None:
    ladder = config().rope_dims[0]
    cos, sin = video_rope(3, 1, 1, config(), num_reference=2)
    expected = rope_table(torch.tensor([[0.0, 1, 2, 150, 300]], dtype=torch.float64), ladder)
    pairs = ladder // 2
    torch.testing.assert_close(cos.squeeze()[:, :pairs], expected[0].squeeze())
    torch.testing.assert_close(sin.squeeze()[:, :pairs], expected[1].squeeze())
    places = [0, 1, 2, 3, 760, 761, 1520, 1521]
    expected = rope_table(torch.tensor([places], dtype=torch.float64) * SCALE, ladder)
    for found, wanted in zip(appended_audio_rope(4, 2, 2, config()), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_reference_where_the_clip_ends_is_the_clip_going_on() -> None:
    """At temporal position 150 (and 760 for sound) it is what one more latent of a plain Ovi would be: seen by
    self-attention and by the other stream, embedded with its neighbours, at the same noise level."""
    ours, ovi = build("dreamid-omni"), build("ovi-11b")
    given = inputs(151, 763)
    expected_v, expected_a = call(ovi, **given)
    found_v, found_a = call(
        ours,
        **given
        | {
            "video": given["video"][:, :, :150],
            "audio": given["audio"][:, :, :760],
            "sigma_video": given["sigma_video"][:, :150],
            "sigma_audio": given["sigma_audio"][:, :760],
        },
        reference_image=given["video"][:, :, 150:],
        reference_audio=given["audio"][:, :, 760:],
    )
    torch.testing.assert_close(found_v, expected_v[:, :, :150], atol=1e-5, rtol=0)
    torch.testing.assert_close(found_a, expected_a[:, :, :760], atol=1e-5, rtol=0)


def test_without_references_it_is_ovi() -> None:
    given = inputs(3, 7)
    for found, expected in zip(call(build("dreamid-omni"), **given), call(build("ovi-11b"), **given), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["reference_image", "reference_audio"])
def test_a_reference_reaches_both_streams_and_its_order_counts(name: str) -> None:
    model, given = build("dreamid-omni"), inputs(3, 7)
    shape = (1, 48, 2, 2, 4) if name == "reference_image" else (1, 20, 2, 3)
    reference = torch.randn(shape)
    plain = call(model, **given)
    one, other = (call(model, **given, **{name: each}) for each in (reference, reference.flip(2)))
    for side in range(2):
        assert not torch.allclose(plain[side], one[side], atol=1e-4)
        assert not torch.allclose(one[side], other[side], atol=1e-5)


def test_references_of_a_clean_first_frame_have_the_noise_level_of_the_rest() -> None:
    model, given = build("dreamid-omni"), inputs(3, 7)
    reference = torch.randn(1, 48, 1, 2, 4)
    given["sigma_video"] = torch.tensor([[0.0, 0.7, 0.7]])
    stream = model._video_stream(VideoInput(given["video"], given["sigma_video"], given["video_context"], reference))
    assert torch.equal(stream.e_BTD[:, 3], stream.e_BTD[:, 2])
    assert not torch.equal(stream.e_BTD[:, 3], stream.e_BTD[:, 0])
