"""The node that samples with everything on it."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..harmony_core.diffusion.guidance import SyncCFG, TextCFG
from .host.av_latent import split_latent
from .host.av_models import av_model
from .host.guider import make_guider
from .host.model import HarmonyModel
from .host.run_hooks import with_shift
from .inputs import BUILT_IN, negative_input, sync_inputs, text_inputs

SAMPLER, SCHEDULER = "euler", "simple"


class HarmonySampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonySampler",
            display_name="Harmony Sampler",
            category="Harmony",
            description="Makes the video and the sound: guider, noise, schedule and sampler in one node, for Harmony, "
            "Ovi, LTX-2 and MiniMax H3. Use Harmony SyncCFG with core's sampling nodes for everything else.",
            search_aliases=["ksampler", "generate video with sound", "beginner", "all in one"],
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("positive"),
                io.Latent.Input("latent", tooltip="From Harmony Clip, or with given media put into it."),
                io.Latent.Input("anchors", tooltip="From Harmony Clip: a still picture and silence."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Another seed is another clip.",
                ),
                io.Int.Input(
                    "steps",
                    default=BUILT_IN.steps,
                    min=1,
                    max=1000,
                    tooltip="More steps take longer and add detail (built-in model: "
                    f"{BUILT_IN.steps}, Harmony 5B: 40).",
                ),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    tooltip="Higher spends more of the steps on the layout and fewer on detail. 0 = the model's own "
                    f"(built-in model: {BUILT_IN.shift:g}, Harmony 5B: 5).",
                ),
                *sync_inputs(),
                *text_inputs(),
                negative_input(),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        latent: dict[str, Any],
        anchors: dict[str, Any],
        seed: int,
        steps: int,
        shift: float,
        video_sync_scale: float,
        audio_sync_scale: float,
        video_text_scale: float,
        audio_text_scale: float,
        negative: Any = None,
    ) -> io.NodeOutput:
        check_shift(model, shift)
        split_latent(latent)
        sync = SyncCFG(video_scale=video_sync_scale, audio_scale=audio_sync_scale)
        text = TextCFG(video_scale=video_text_scale, audio_scale=audio_text_scale)
        guider = make_guider(with_shift(model, shift), positive, negative, anchors, sync, text)
        return io.NodeOutput(sample_latent(guider, latent, seed, steps))


def check_shift(patcher: ModelPatcher, shift: float) -> None:
    """Raises ValueError for a shift that would replace the schedule of one of ComfyUI's own models."""
    if shift and not isinstance(patcher.model, HarmonyModel):
        raise ValueError(
            f"The shift is {shift:g}, but {av_model(patcher.model).title} keeps its own schedule (H3 has one for each "
            "stream); set shift to 0, or change it with core's node for this model before Harmony Sampler."
        )


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
