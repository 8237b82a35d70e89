"""The node that samples with everything on it."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..harmony_core.diffusion.guidance import SyncCFG, TextCFG
from .guidance import BUILT_IN, make_guider, negative_input, sync_inputs, text_inputs
from .host.sampler import check_model, sample_latent, with_shift
from .host.streams import split_latent


class HarmonySampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonySampler",
            display_name="Harmony Sampler",
            category="Harmony",
            description="Makes the video and the sound: guider, noise, schedule and sampler in one node. "
            "Use Harmony SyncCFG with core's sampling nodes for everything else.",
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
                    default=BUILT_IN.shift,
                    min=0.01,
                    max=100.0,
                    step=0.01,
                    tooltip="Higher spends more of the steps on the layout and fewer on detail (built-in model: "
                    f"{BUILT_IN.shift:g}, Harmony 5B: 5).",
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
        check_model(model)
        split_latent(latent)
        sync = SyncCFG(video_scale=video_sync_scale, audio_scale=audio_sync_scale)
        text = TextCFG(video_scale=video_text_scale, audio_scale=audio_text_scale)
        guider = make_guider(with_shift(model, shift), positive, negative, anchors, sync, text)
        return io.NodeOutput(sample_latent(guider, latent, seed, steps))
