"""Nodes that lay out a clip: how long, how large, what is already there."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.clips import empty_clip
from .host.notes import show


class HarmonyClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyClip",
            display_name="Harmony Clip",
            category="Harmony",
            description="An empty clip of video and sound, and the anchors that SyncCFG guides away from: a still "
            "picture and silence. Lengths are rounded up to what the model takes and cut again by Harmony Decode.",
            search_aliases=["empty latent audio video", "harmony empty latent", "anchors", "image to video"],
            inputs=[
                io.Vae.Input("vae"),
                io.Vae.Input("audio_vae"),
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=60.0,
                    step=0.01,
                    tooltip="Length of the clip. 0 = the checkpoint's own (built-in model: 2).",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=0.001,
                    tooltip="Frames per second. 0 = the checkpoint's own (built-in model: 12.5).",
                ),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=8192,
                    step=8,
                    tooltip="Pixels. 0 = the checkpoint's own (built-in model: 64).",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=8192,
                    step=8,
                    tooltip="Pixels. 0 = the checkpoint's own (built-in model: 64).",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Clips made at once."),
                io.Image.Input(
                    "first_frame",
                    optional=True,
                    tooltip="The picture that the clip starts from; scaled to cover the size, cropped at the centre.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent"),
                io.Latent.Output(display_name="anchors", tooltip="For Harmony SyncCFG."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        vae: Any,
        audio_vae: Any,
        seconds: float,
        fps: float,
        width: int,
        height: int,
        batch_size: int,
        first_frame: Any = None,
    ) -> io.NodeOutput:
        latent, anchors, lines = empty_clip(vae, audio_vae, seconds, fps, width, height, batch_size, first_frame)
        show(cls.hidden.unique_id, lines)
        return io.NodeOutput(latent, anchors)
