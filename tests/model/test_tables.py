"""Cached tables: a sampler under inference_mode may be the first to ask for them, and a training step the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from harmony_core.model.inputs import AudioInput, VideoInput
from harmony_core.ops import registry
from harmony_core.ops.tables import cached_tables

from .test_transformer import inputs, random_model, small_config

OVI = {"interaction": "global", "rope_alignment": "ovi", "style_alignment": False, "speech": None}


@pytest.fixture(params=["naive", "sdpa"])
def attention(request: pytest.FixtureRequest) -> Iterator[str]:
    registry.use("framewise_attention", request.param)
    yield request.param
    registry.use("framewise_attention", None)


@pytest.mark.parametrize("changes", [{}, {"rope_alignment": "timestamp"}, OVI], ids=["index", "timestamp", "ovi"])
def test_training_follows_sampling(changes: dict, attention: str) -> None:
    config = small_config(ffn_dim=len(attention) * 8, **changes)  # of no other test, so that nothing is cached yet
    model, values = random_model(config), inputs(config, batch=2)
    video = VideoInput(values["video"], values["sigma_video"], values["video_context"])
    audio = AudioInput(
        values["audio"], values["sigma_audio"], values["audio_context"], values["transcript"], values["reference_audio"]
    )
    with torch.inference_mode():
        sampled = model(video, audio)
    trained = model(video, audio)
    assert all(torch.equal(one, other) for one, other in zip(sampled, trained, strict=True))
    torch.stack([velocity.square().mean() for velocity in trained]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.interactions.parameters())


def test_tables_are_made_once_and_can_be_saved_for_backward() -> None:
    @cached_tables
    def table(size: int) -> torch.Tensor:
        return torch.arange(size).float()

    with torch.inference_mode():
        first = table(3)
    assert not first.is_inference()
    assert table(3) is first
