"""All of sampling in one call: what core's ModelSamplingSD3, BasicScheduler and SamplerCustomAdvanced do one by one."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher

from .model import HarmonyModel

SAMPLER, SCHEDULER = "euler", "simple"


class ShiftedSampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """Flow matching with a shift of its own."""


def check_model(patcher: ModelPatcher) -> None:
    """Raises ValueError for a model whose schedule or streams this sampler does not know."""
    if not isinstance(patcher.model, HarmonyModel):
        raise ValueError(
            f"Harmony Sampler knows Harmony and Ovi models, not {type(patcher.model).__name__}. For LTX-2 use Harmony "
            "SyncCFG with core's sampling nodes (template ltx2_sync_cfg), for a model without sound core's KSampler."
        )


def with_shift(patcher: ModelPatcher, shift: float) -> ModelPatcher:
    """A copy of the model whose schedule has this shift."""
    patcher = patcher.clone()
    sampling = ShiftedSampling(patcher.model.model_config)
    sampling.set_parameters(shift=shift, multiplier=sampling.multiplier)
    patcher.add_object_patch("model_sampling", sampling)
    return patcher


def sample_latent(guider: comfy.samplers.CFGGuider, latent: dict[str, Any], seed: int, steps: int) -> dict[str, Any]:
    """A copy of a LATENT with its generated parts made, showing progress and previews as core's samplers do."""
    patcher = guider.model_patcher
    samples = latent["samples"]
    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), SCHEDULER, steps)
    out = guider.sample(
        comfy.sample.prepare_noise(samples, seed, latent.get("batch_index")),
        samples,
        comfy.samplers.sampler_object(SAMPLER),
        sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(patcher, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return {**latent, "samples": out.to(comfy.model_management.intermediate_device())}
