"""The schedule that a model is sampled with."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...harmony_core.diffusion.flow import linear_sigmas
from .model import HarmonyModel

SCHEDULER = "simple"


def own_sigmas(patcher: ModelPatcher, steps: int) -> Tensor:
    """Noise levels [steps + 1] from 1 to 0 at the model's present shift: ComfyUI's `simple`, or the model's own, which
    none of ComfyUI's is (UniAVGen)."""
    sampling: Any = patcher.get_model_object("model_sampling")
    if isinstance(patcher.model, HarmonyModel) and patcher.model.harmony.schedule == "linear":
        return linear_sigmas(steps, sampling.shift, patcher.model.harmony.published_rounding).float()
    return comfy.samplers.calculate_sigmas(sampling, SCHEDULER, steps)
