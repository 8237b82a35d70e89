"""What every run of a Harmony model needs around ComfyUI's sampling loop."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .model import HarmonyModel

WRAPPER_KEY = "harmony"


def prepare_runs(patcher: ModelPatcher) -> ModelPatcher:
    """The same model whose runs know their latent shapes and keep given latents exactly. Adds nothing twice."""
    if isinstance(patcher.model, HarmonyModel) and not patcher.get_wrappers(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY):
        patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY, _around_run)
    return patcher


def _around_run(
    executor: Any,
    noise: Tensor,
    latent_image: Tensor,
    sampler: Any,
    sigmas: Tensor,
    denoise_mask: Tensor | None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Tell the model its latent shapes before the run; afterwards put back what was given (uni_pc drifts by 3e-3)."""
    shapes = kwargs.get("latent_shapes") or args[-1]
    executor.class_obj.model_patcher.model.latent_shapes = shapes
    out = executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)
    if denoise_mask is None:
        return out
    mask = denoise_mask.to(out)
    return out * mask + latent_image.to(out) * (1 - mask)
