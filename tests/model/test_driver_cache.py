"""Driver caches: what they hold, where, and that every placement is exact."""

from __future__ import annotations

import pytest
import torch

from harmony_core.model.driver_cache import DriverCache
from harmony_core.model.memory import choose_placement, mute_audio_bytes, static_video_bytes
from tests.model.test_transformer import call, inputs, random_model, small_config

ROLES, DRIVERS = ("joint", "audio_given", "video_given"), (None, "mute", "static")


def to_device(values: dict[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
    return {name: value.to(device) for name, value in values.items()}


def assert_exact(placement: str, device: str, tolerance: float) -> None:
    """Three passes with moving generated streams and fixed drivers, against passes without a cache."""
    config = small_config()
    model, values = random_model(config).to(device), to_device(inputs(config, batch=3), device)
    cache = DriverCache(placement)
    for step in range(3):
        moving = dict(values, video=values["video"].clone(), audio=values["audio"].clone())
        moving["video"][:2] += step
        moving["audio"][::2] -= step
        with torch.no_grad():
            live = call(model, **moving, roles=ROLES)
            cached = call(model, **moving, roles=ROLES, drivers=DRIVERS, cache=cache)
        torch.testing.assert_close(cached[0][:2], live[0][:2], atol=tolerance, rtol=0)
        torch.testing.assert_close(cached[1][::2], live[1][::2], atol=tolerance, rtol=0)


@pytest.mark.parametrize("placement", ["device", "host"])
def test_every_placement_is_exact(placement: str):
    assert_exact(placement, "cpu", 1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_streaming_from_pinned_memory_is_exact():
    assert_exact("host", "cuda", 1e-5)


@pytest.mark.parametrize("pooling", ["none", "frame"])
@pytest.mark.parametrize("num_reference", [0, 2])
def test_the_estimate_is_what_a_cache_holds(num_reference: int, pooling: str):
    config = small_config(style_pooling=pooling)
    model, values = random_model(config), inputs(config, batch=3, num_reference=num_reference)
    cache = DriverCache()
    with torch.no_grad():
        call(model, **values, roles=ROLES, drivers=DRIVERS, cache=cache)
    needed = mute_audio_bytes(config, 18, 1, 4) + static_video_bytes(config, (3, 2, 3), 1, 4, num_reference > 0)
    assert cache.bytes_held() == needed


def test_placement_follows_free_memory():
    assert choose_placement(49, free_device=100, free_host=0) == "device"
    assert choose_placement(50, free_device=100, free_host=101) == "host"
    assert choose_placement(50, free_device=100, free_host=100) == "off"


def test_an_unknown_placement_is_an_error():
    with pytest.raises(ValueError, match="placement is 'off'; choose device or host"):
        DriverCache("off")
