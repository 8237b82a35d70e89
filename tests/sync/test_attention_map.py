"""Attention between sound and picture, read from outside the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harmony_core.model import HarmonyTransformer
from harmony_core.model.initialize import initialize
from harmony_core.model.inputs import AudioInput, VideoInput
from harmony_core.ops.framewise_attention import framewise_attention_naive
from harmony_core.presets import preset
from harmony_core.sync.attention_map import CLEAR, SyncMap, draw_sync_map, middle_layers

GRID = (3, 2, 2)


@pytest.fixture
def transformer() -> HarmonyTransformer:
    config = preset("harmony-tiny").with_(dim=64, ffn_dim=96, num_heads=2, num_layers=3)
    model = HarmonyTransformer(config)
    initialize(model, torch.Generator().manual_seed(0))
    for interaction in model.interactions:
        for direction in (interaction.a2v, interaction.v2a):
            torch.nn.init.normal_(direction.o.weight, std=0.1)
    return model.eval()


def forward(transformer: HarmonyTransformer, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    video, audio = (torch.randn(shape, generator=generator) for shape in ((2, 24, 3, 4, 4), (2, 20, 18)))
    context = torch.randn(2, 5, 64, generator=generator)
    with torch.no_grad():
        return transformer(
            VideoInput(video, torch.full((2, 3), 0.5), context), AudioInput(audio, torch.full((2, 18), 0.5), context)
        )


def test_watching_changes_nothing_and_ends(transformer: HarmonyTransformer) -> None:
    expected = forward(transformer)
    with SyncMap(transformer, "v2a", (0, 2)) as seen:
        actual = forward(transformer)
    assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))
    before = seen.strength(GRID)
    forward(transformer, seed=1)
    assert torch.equal(seen.strength(GRID), before)


def test_attention_is_the_naive_ops(transformer: HarmonyTransformer) -> None:
    """With the identity for values, the op's output is its weights."""
    calls = []
    module = transformer.interactions[1].v2a
    hook = module.register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    with SyncMap(transformer, "v2a", (1,)) as seen:
        forward(transformer)
    hook.remove()
    ((x, (k, _), geometry),) = calls
    identity = torch.eye(k.shape[1])[None, :, None].expand(2, -1, k.shape[2], -1)
    with torch.no_grad():
        tables = geometry.rope_q, geometry.rope_k
        weights = framewise_attention_naive(module.queries(x), k, identity, geometry.groups, *tables)[0].mean(1)
    even = (weights > 0).float() / (weights > 0).sum(1, keepdim=True)
    torch.testing.assert_close(seen.strength(GRID).flatten(), weights.sum(0) / even.sum(0), atol=1e-5, rtol=0)


def test_change_is_where_the_sound_is_put(transformer: HarmonyTransformer) -> None:
    """A patch that is given ten times as much stands out by ten."""

    def louder(_, __, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[:, 7] *= 10
        return output

    with SyncMap(transformer, "a2v", (0,)) as seen:
        forward(transformer)
    plain = seen.strength(GRID).flatten()
    hook = transformer.interactions[0].a2v.register_forward_hook(louder)
    with SyncMap(transformer, "a2v", (0,)) as seen:
        forward(transformer)
    hook.remove()
    ratio = seen.strength(GRID).flatten() / plain
    assert ratio[7] / ratio[0] == pytest.approx(10, rel=1e-4)


def test_layers_are_averaged(transformer: HarmonyTransformer) -> None:
    maps = {}
    for layers in ((0,), (1,), (0, 1)):
        with SyncMap(transformer, "v2a", layers) as seen:
            forward(transformer)
        maps[layers] = seen.strength(GRID)
    torch.testing.assert_close(maps[0, 1], (maps[0,] + maps[1,]) / 2)


def test_middle_layers() -> None:
    assert middle_layers(6) == (2, 3)
    assert middle_layers(1) == (0,)
    assert middle_layers(30) == tuple(range(10, 20))


@pytest.mark.parametrize(
    ("direction", "layers", "message"),
    [("up", (0,), "direction is 'up'; choose v2a or a2v"), ("v2a", (1, 3), "no layer 3 to look at.* 0 to 2")],
)
def test_wrong_settings(transformer: HarmonyTransformer, direction: str, layers: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyncMap(transformer, direction, layers)


def test_other_interactions_are_refused() -> None:
    config = preset("ovi-11b").with_(dim=64, ffn_dim=96, num_heads=2, num_layers=1, audio_ffn_conv_dim=96)
    with pytest.raises(ValueError, match="'global'; a sync map needs 'framewise'"):
        SyncMap(HarmonyTransformer(config), "v2a", (0,))


def test_the_brightest_patch_is_where_the_map_is_strong() -> None:
    """Nine frames of three latents: the first latent is one frame, the others four."""
    frames = np.full((9, 32, 32, 3), 90, np.uint8)
    strength = torch.ones(GRID)
    strength[1, 0, 1] = CLEAR
    drawn = draw_sync_map(frames, strength).astype(int).sum(-1)
    assert drawn.shape == (9, 32, 32)
    lit = [index for index in range(9) if drawn[index].max() > drawn[0].max()]
    assert lit == [1, 2, 3, 4]
    y, x = np.unravel_index(drawn[2].argmax(), (32, 32))
    assert y < 16 <= x
    assert (drawn[5:] == drawn[0, 0, 0]).all()


def test_a_film_s_own_frames_show_the_clip_s_moments_and_middle() -> None:
    """A film at twice the clip's rate, twice as wide as high: the square clip saw its middle."""
    frames = np.full((18, 32, 64, 3), 90, np.uint8)
    strength = torch.ones(GRID)
    strength[1, 0, 1] = CLEAR
    drawn = draw_sync_map(frames, strength, num_frames=9).astype(int).sum(-1)
    lit = [index for index in range(18) if drawn[index].max() > drawn[0].max()]
    assert lit == list(range(2, 10))
    y, x = np.unravel_index(drawn[4].argmax(), (32, 64))
    assert y < 16
    assert 32 <= x < 48
    assert (drawn[:, :, :16] == drawn[0, 0, 0]).all()
    assert (drawn[:, :, 48:] == drawn[0, 0, 0]).all()


def test_even_attention_stays_dark() -> None:
    frames = np.full((5, 8, 8, 3), 90, np.uint8)
    almost_even = 1 + 0.05 * torch.rand(2, 2, 2)
    drawn = draw_sync_map(frames, almost_even).astype(int)
    assert np.ptp(drawn.sum(-1)) < 60
