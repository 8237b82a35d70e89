"""Tiny runs of ComfyUI's own models of video and sound. Import after `load_pack`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from tools.comfyui.install import REPOSITORY

sys.path.append(str(REPOSITORY / "tests" / "host"))

import comfy.context_windows
import comfy.model_base
import comfy.model_patcher
import comfy.nested_tensor
import comfy.samplers
import torch
from harmony_pack.harmony_core.diffusion.guidance import SyncCFG, TextCFG
from harmony_pack.nodes.host.guider import SyncCFGGuider
from probe_nodes import core_models

Pair = tuple[torch.Tensor, torch.Tensor]

LTX_VIDEO, LTX_AUDIO = (1, 128, 3, 2, 2), (1, 8, 9, 16)
H3_VIDEO, H3_AUDIO = (1, 24, 2, 2, 2), (1, 32, 2, 8)
HAS_H3 = hasattr(comfy.model_base, "MiniMaxH3")
h3_models = import_module("probe_nodes.h3_models") if HAS_H3 else None


def nested(*tensors: torch.Tensor) -> comfy.nested_tensor.NestedTensor:
    return comfy.nested_tensor.NestedTensor(tensors)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(seed: int, video: tuple[int, ...] = LTX_VIDEO, audio: tuple[int, ...] = LTX_AUDIO) -> Pair:
    return random(seed, *video), random(seed + 50, *audio)


def zeros(video: tuple[int, ...] = LTX_VIDEO, audio: tuple[int, ...] = LTX_AUDIO) -> Pair:
    return torch.zeros(video), torch.zeros(audio)


def ltx_text(seed: int, **extra: Any) -> list:
    return [[random(seed, 1, 128, 2 * core_models.LTX_WIDTH), {"frame_rate": 25, **extra}]]


def h3_text(seed: int) -> list:
    return [[random(seed, 1, 6, 32), {}]]


def run(
    guider: comfy.samplers.CFGGuider,
    latent: Pair,
    mask: Pair | None = None,
    sigmas: tuple[float, ...] = (1.0, 0.6, 0.0),
) -> list[torch.Tensor]:
    """Euler steps from one noise; [video, audio]."""
    noise = nested(*(random(1 + index, *part.shape) for index, part in enumerate(latent)))
    masks = None if mask is None else nested(*mask)
    sampler = comfy.samplers.sampler_object("euler")
    return guider.sample(noise, nested(*latent), sampler, torch.tensor(sigmas), masks, seed=1).unbind()


def core_guider(
    patcher: comfy.model_patcher.ModelPatcher, positive: list, negative: list | None = None, scale: float = 1.0
) -> comfy.samplers.CFGGuider:
    guider = comfy.samplers.CFGGuider(patcher)
    guider.set_conds(positive, negative or positive)
    guider.set_cfg(scale)
    return guider


def scales(kind: type, video: float, audio: float, **options: Any) -> Any:
    return kind(video_scale=float(video), audio_scale=float(audio), **options)


def our_guider(
    patcher: comfy.model_patcher.ModelPatcher,
    anchors: Pair,
    positive: list,
    negative: list | None = None,
    sync: tuple[float, float] = (1, 1),
    text: tuple[float, float] = (1, 1),
    extra: tuple = (),
) -> SyncCFGGuider:
    guider = SyncCFGGuider(patcher, scales(SyncCFG, *sync), scales(TextCFG, *text), anchors, extra)
    guider.inner_set_conds({"positive": positive} | ({"negative": negative} if negative else {}))
    return guider


def windowed(
    patcher: comfy.model_patcher.ModelPatcher,
    length: int,
    overlap: int,
    schedule: str = "standard_static",
    **options: Any,
) -> comfy.model_patcher.ModelPatcher:
    """The model as ContextWindowsManual puts it out."""
    patcher = patcher.clone()
    settings = {"dim": 2, "context_stride": 1} | options
    patcher.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        context_schedule=comfy.context_windows.get_matching_context_schedule(schedule),
        fuse_method=comfy.context_windows.get_matching_fuse_method("flat"),
        context_length=length,
        context_overlap=overlap,
        **settings,
    )
    return patcher


def same(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance`, of the largest value where that is above 1."""
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance * max(1.0, float(other.abs().max())), rtol=0)


def differ(actual: Any, expected: Any, by: float = 1e-3) -> None:
    assert all((one - other).abs().max() > by for one, other in zip(actual, expected, strict=True))


@contextmanager
def counted_passes(patcher: comfy.model_patcher.ModelPatcher) -> Iterator[list[int]]:
    """A list that grows by the batch size of every forward pass."""
    kind = type(patcher.model)
    original, sizes = kind._apply_model, []

    def spy(self, x, *args, **kwargs):
        sizes.append(len(x))
        return original(self, x, *args, **kwargs)

    kind._apply_model = spy
    try:
        yield sizes
    finally:
        kind._apply_model = original
