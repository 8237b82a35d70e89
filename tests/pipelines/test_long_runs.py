"""Many steps at large scales, in the dtypes that GPUs compute in."""

from __future__ import annotations

import pytest
import torch

from harmony_core.pipelines import GenerateRequest, HarmonyPipeline


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_latents_stay_finite_over_200_steps_at_large_scales(dtype: torch.dtype) -> None:
    pipeline = HarmonyPipeline.from_file("harmony-tiny", dtype=dtype)
    scales = {f"{stream}_{what}_scale": 15.0 for stream in ("video", "audio") for what in ("sync", "text")}
    made = pipeline(GenerateRequest(prompt="a red ball bounces on metal", seconds=0.25, steps=200, **scales))
    assert made.latents_audio is not None
    for latents in (made.latents_video, made.latents_audio):
        assert latents.isfinite().all()
        assert latents.abs().max() < 1e4
