"""Nodes for a voice or timbre, and for a look, to follow."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.given import give_reference
from .host.notes import show
from .host.reference import give_reference_images


class HarmonyReferenceAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyReferenceAudio",
            display_name="Harmony Reference Audio",
            category="Harmony",
            description="A sample of the voice or the timbre that the sound should have.",
            search_aliases=["voice clone", "voice cloning", "speaker", "timbre", "style"],
            inputs=[
                io.Conditioning.Input("conditioning"),
                io.Vae.Input("audio_vae"),
                io.Audio.Input("audio", tooltip="What is said or heard in it does not matter, only how it sounds."),
                io.Float.Input(
                    "seconds",
                    default=0.48,
                    min=0.04,
                    max=10.0,
                    step=0.04,
                    tooltip="How much of its beginning is used. Built-in model: 0.3 to 0.5; larger models: 1 to 3.",
                ),
            ],
            outputs=[io.Conditioning.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, conditioning: Any, audio_vae: Any, audio: dict[str, Any], seconds: float) -> io.NodeOutput:
        conditioning, notes = give_reference(conditioning, audio_vae, audio, seconds)
        show(cls.hidden.unique_id, notes)
        return io.NodeOutput(conditioning)


class HarmonyReferenceImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyReferenceImage",
            display_name="Harmony Reference Image",
            category="Harmony",
            description="Pictures of somebody or something that should be seen in the clip. For DreamID-Omni.",
            search_aliases=["identity", "subject", "face reference", "character", "DreamID-Omni"],
            inputs=[
                io.Conditioning.Input("conditioning"),
                io.Vae.Input("vae"),
                io.Latent.Input("latent", tooltip="From Harmony Clip: each picture is fitted to its size, on white."),
                io.Image.Input(
                    "images",
                    tooltip="Each picture of the batch is a reference. More: one of these nodes after another.",
                ),
            ],
            outputs=[io.Conditioning.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, conditioning: Any, vae: Any, latent: dict[str, Any], images: Any) -> io.NodeOutput:
        conditioning, notes = give_reference_images(conditioning, vae, latent, images)
        show(cls.hidden.unique_id, notes)
        return io.NodeOutput(conditioning)
