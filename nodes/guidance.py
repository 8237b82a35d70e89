"""Nodes that guide sampling."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..harmony_core.diffusion.guidance import Guidance, Isolated, ReferenceCFG, SkipLayer, SyncCFG, TextCFG
from .host.guidances import own_negative
from .host.guider import make_guider
from .host.run_hooks import say
from .inputs import BUILT_IN, layer_list, negative_input, negative_scales, scale_input, sync_inputs, text_inputs


class HarmonySyncCFG(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonySyncCFG",
            display_name="Harmony SyncCFG",
            category="Harmony",
            description="Lips are off: raise video_sync_scale. Sounds miss what is seen: raise audio_sync_scale. 1.5 "
            "is normal, 1.0 off. It pushes the clip away from the video that silence would have, and from the sound "
            "that a still picture would have. Also guides ComfyUI's own LTX-2 and MiniMax H3.",
            search_aliases=[
                "lip sync",
                "sync guidance",
                "audio video guider",
                "cfg",
                "LTX-2 guider",
                "口型",
                "音画同步",
            ],
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("positive"),
                io.Latent.Input("anchors", tooltip="From Harmony Clip: a still picture and silence."),
                *sync_inputs(),
                negative_input(),
                *text_inputs(optional=True),
                io.Float.Input(
                    "sync_start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Share of the steps after which guidance other than text begins.",
                ),
                io.Float.Input(
                    "sync_stop",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Share of the steps after which guidance other than text ends. Lower is faster.",
                ),
                io.Int.Input(
                    "sync_interval",
                    default=1,
                    min=1,
                    max=16,
                    optional=True,
                    advanced=True,
                    tooltip="Guide every n-th step only (text: every step). 2 saves half of the extra passes.",
                ),
                scale_input(
                    "isolation_scale",
                    1.0,
                    "Away from video and sound that are deaf to each other. 1.0 = off, saves one pass per step.",
                    optional=True,
                    advanced=True,
                ),
                scale_input(
                    "skip_layer_scale",
                    1.0,
                    "Away from the model without the layers below. 1.0 = off, saves one pass per step.",
                    optional=True,
                    advanced=True,
                ),
                io.String.Input(
                    "skip_layers",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Layers that skip_layer_scale leaves out, counted from 0: 3 or 3, 4.",
                ),
                scale_input(
                    "video_reference_scale",
                    1.0,
                    "How closely the video follows Harmony Reference Image (DreamID-Omni: 2.5). "
                    "1.0 = off, saves one pass per step.",
                    optional=True,
                    advanced=True,
                ),
                scale_input(
                    "audio_reference_scale",
                    1.0,
                    "How closely the sound follows Harmony Reference Audio (DreamID-Omni: 3.0; no other model). "
                    "1.0 = off, saves one pass per step.",
                    optional=True,
                    advanced=True,
                ),
                *negative_scales(),
            ],
            outputs=[io.Guider.Output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        anchors: dict[str, Any],
        video_sync_scale: float,
        audio_sync_scale: float,
        negative: Any = None,
        video_text_scale: float = BUILT_IN.video_text_scale,
        audio_text_scale: float = BUILT_IN.audio_text_scale,
        sync_start: float = 0.0,
        sync_stop: float = 1.0,
        sync_interval: int = 1,
        isolation_scale: float = 1.0,
        skip_layer_scale: float = 1.0,
        skip_layers: str = "",
        video_reference_scale: float = 1.0,
        audio_reference_scale: float = 1.0,
        video_negative_scale: float = 1.0,
        audio_negative_scale: float = 1.0,
    ) -> io.NodeOutput:
        when = {"start": sync_start, "stop": sync_stop, "interval": sync_interval}
        sync = SyncCFG(video_scale=video_sync_scale, audio_scale=audio_sync_scale, **when)
        text = TextCFG(video_scale=video_text_scale, audio_scale=audio_text_scale)
        extra: list[Guidance] = []
        if isolation_scale != 1.0:
            extra.append(Isolated(video_scale=isolation_scale, audio_scale=isolation_scale, **when))
        if skip_layer_scale != 1.0:
            scales = {"video_scale": skip_layer_scale, "audio_scale": skip_layer_scale}
            extra.append(SkipLayer(**scales, layers=layer_list("skip_layers", skip_layers), **when))
        if (video_reference_scale, audio_reference_scale) != (1.0, 1.0):
            _check_reference(positive, "harmony_reference_image", video_reference_scale, "HarmonyReferenceImage")
            _check_reference(positive, "harmony_reference_audio", audio_reference_scale, "HarmonyReferenceAudio")
            extra.append(ReferenceCFG(video_scale=video_reference_scale, audio_scale=audio_reference_scale, **when))
        extra += own_negative(model.model, video_negative_scale, audio_negative_scale)
        guider, notes = make_guider(model, positive, negative, anchors, sync, text, tuple(extra))
        say(notes)
        return io.NodeOutput(guider)


def _check_reference(positive: Any, key: str, scale: float, node: str) -> None:
    if scale != 1.0 and not all(key in extra for _, extra in positive):
        raise ValueError(f"A reference scale of {scale:g} needs a reference; add {node} to positive or set it to 1.0.")
