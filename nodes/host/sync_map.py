"""One model pass over a finished LATENT, watched."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...harmony_core.sync.attention_map import SyncMap, middle_layers
from .model import HarmonyModel
from .sampling import prepare_runs
from .streams import nest, split_latent


def map_of_latent(
    patcher: ModelPatcher,
    positive: Any,
    latent: dict[str, Any],
    direction: str,
    layers: tuple[int, ...],
    noise: float,
    seed: int,
) -> tuple[Tensor, int]:
    """Strength [T_v, h, w] for the first clip with `noise` (0..1) put onto it, and the temporal stride.

    No `layers` are the middle third. Raises ValueError for another model, and as SyncMap does.
    """
    if not isinstance(patcher.model, HarmonyModel):
        raise ValueError(f"A sync map needs a Harmony model, not {type(patcher.model).__name__}.")
    config = patcher.model.harmony
    video, audio = (part[:1] for part in split_latent(latent))
    clip = nest(video, audio)
    guider = comfy.samplers.CFGGuider(prepare_runs(patcher.clone()))
    guider.set_conds(positive, positive)
    guider.set_cfg(1.0)
    sampler = comfy.samplers.sampler_object("euler")
    with SyncMap(patcher.model.diffusion_model, direction, layers or middle_layers(config.num_layers)) as seen:
        guider.sample(comfy.sample.prepare_noise(clip, seed), clip, sampler, torch.tensor([noise, 0.0]), seed=seed)
    grid = config.grid(video.shape)
    return seen.strength(grid), config.temporal_stride
