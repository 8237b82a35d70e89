"""Nodes that guide sampling."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..harmony_core.config import PRESETS
from ..harmony_core.diffusion.guidance import SyncCFG, TextCFG
from .host.guider import SyncCFGGuider
from .host.streams import split_latent

_BUILT_IN = PRESETS["harmony-tiny"]


class HarmonySyncCFG(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonySyncCFG",
            display_name="Harmony SyncCFG",
            category="Harmony",
            description="Strengthens what video and sound owe to each other: away from the video that silence would "
            "have, and away from the sound that a still picture would have. Also guides native LTX-2 models.",
            search_aliases=["sync guidance", "harmony guider", "audio video guider", "cfg", "LTX-2 guider"],
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("positive"),
                io.Latent.Input("anchors", tooltip="From Harmony Clip: a still picture and silence."),
                io.Float.Input(
                    "video_sync_scale",
                    default=_BUILT_IN.video_sync_scale,
                    min=0.0,
                    max=20.0,
                    step=0.05,
                    tooltip="How strongly the video follows the sound. 1.0 = off, saves one pass per step.",
                ),
                io.Float.Input(
                    "audio_sync_scale",
                    default=_BUILT_IN.audio_sync_scale,
                    min=0.0,
                    max=20.0,
                    step=0.05,
                    tooltip="How strongly the sound follows the video. 1.0 = off, saves one pass per step.",
                ),
                io.Conditioning.Input("negative", optional=True, tooltip="Only needed when a text scale is not 1.0."),
                io.Float.Input(
                    "video_text_scale",
                    default=1.0,
                    min=0.0,
                    max=20.0,
                    step=0.05,
                    optional=True,
                    tooltip="Text guidance of the video. 1.0 for both text scales = off, saves one pass per step.",
                ),
                io.Float.Input(
                    "audio_text_scale",
                    default=1.0,
                    min=0.0,
                    max=20.0,
                    step=0.05,
                    optional=True,
                    tooltip="Text guidance of the sound. 1.0 for both text scales = off, saves one pass per step.",
                ),
                io.Float.Input(
                    "sync_start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Share of the steps after which sync guidance begins.",
                ),
                io.Float.Input(
                    "sync_stop",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Share of the steps after which sync guidance ends. Lower is faster.",
                ),
                io.Int.Input(
                    "sync_interval",
                    default=1,
                    min=1,
                    max=16,
                    optional=True,
                    advanced=True,
                    tooltip="Guide every n-th step only. 2 saves half of the extra passes.",
                ),
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
        video_text_scale: float = 1.0,
        audio_text_scale: float = 1.0,
        sync_start: float = 0.0,
        sync_stop: float = 1.0,
        sync_interval: int = 1,
    ) -> io.NodeOutput:
        if negative is None and (video_text_scale, audio_text_scale) != (1.0, 1.0):
            raise ValueError(
                f"Text scales of {video_text_scale:g} and {audio_text_scale:g} need a negative; "
                "connect one (an empty Harmony Text Encode will do) or set both to 1.0."
            )
        sync = SyncCFG(
            video_scale=video_sync_scale,
            audio_scale=audio_sync_scale,
            start=sync_start,
            stop=sync_stop,
            interval=sync_interval,
        )
        text = TextCFG(video_scale=video_text_scale, audio_scale=audio_text_scale)
        guider = SyncCFGGuider(model, sync, text, split_latent(anchors, "anchors input"))
        guider.inner_set_conds({"positive": positive} | ({} if negative is None else {"negative": negative}))
        return io.NodeOutput(guider)
