"""Nodes that lay out a clip: how long, how large, what is already there."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.layout import anchors_of, empty_clip
from .host.notes import show
from .inputs import pixels_input, seconds_input


class HarmonyClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        own_size = "Pixels. 0 = the checkpoint's own (built-in model: 64)."
        return io.Schema(
            node_id="HarmonyClip",
            display_name="Harmony Clip",
            category="Harmony",
            description="An empty clip of video and sound, and the anchors that SyncCFG guides away from: a still "
            "picture and silence. Lengths are rounded up to what the model takes and cut again by Harmony Decode. "
            "Also lays out clips for LTX-2, from its own autoencoders.",
            search_aliases=["empty latent audio video", "LTX-2", "harmony empty latent", "anchors", "image to video"],
            inputs=[
                io.Vae.Input("vae"),
                io.Vae.Input("audio_vae"),
                seconds_input("seconds", "Length of the clip. 0 = the checkpoint's own (built-in model: 2).", 60.0),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=0.001,
                    tooltip="Frames per second. 0 = the checkpoint's own (built-in model: 12.5).",
                ),
                pixels_input("width", own_size),
                pixels_input("height", own_size),
                io.Int.Input("batch_size", default=1, min=1, max=64, optional=True, tooltip="Clips made at once."),
                io.Image.Input(
                    "first_frame",
                    optional=True,
                    tooltip="The picture that the clip starts from; scaled to cover the size, cropped at the centre.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Whose lengths and size to take. Connect it for Ovi, which shares its autoencoders with "
                    "Harmony but not its lengths of sound; the rest is known from the autoencoders.",
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
        batch_size: int = 1,
        first_frame: Any = None,
        model: Any = None,
    ) -> io.NodeOutput:
        latent, anchors, lines = empty_clip(vae, audio_vae, seconds, fps, width, height, batch_size, first_frame, model)
        show(cls.hidden.unique_id, lines)
        return io.NodeOutput(latent, anchors)


class HarmonyAnchors(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyAnchors",
            display_name="Harmony Anchors",
            category="Harmony",
            description="What SyncCFG guides away from, made to fit any latent of video and sound: a still picture and "
            "silence. For latents of core's LTX-2 and MiniMax H3 nodes, with guides and in the upscaled second stage "
            "too; Harmony Clip has an output of its own.",
            search_aliases=["anchors", "LTX-2", "MiniMax H3", "sync guidance", "silence", "still picture"],
            inputs=[
                io.Latent.Input("latent", tooltip="The latent that will be sampled, as it goes into the sampler."),
                io.Vae.Input("vae"),
                io.Vae.Input("audio_vae"),
                io.Image.Input(
                    "first_frame",
                    optional=True,
                    tooltip="The still picture. Not connected: the latent's own first frame where it has one, else "
                    "grey.",
                ),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip="Needed where guide frames were added to the latent (LTXVAddGuide): it says how many.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="anchors", tooltip="For Harmony SyncCFG or Harmony Sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, latent: dict[str, Any], vae: Any, audio_vae: Any, first_frame: Any = None, positive: Any = None
    ) -> io.NodeOutput:
        anchors, notes = anchors_of(latent, vae, audio_vae, first_frame, positive)
        show(cls.hidden.unique_id, notes)
        return io.NodeOutput(anchors)
