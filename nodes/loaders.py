"""Nodes that load checkpoints."""

from __future__ import annotations

from comfy_api.latest import io

from .host.loader import (
    NO_FILE,
    WEIGHT_DTYPES,
    checkpoint_names,
    load_checkpoint,
    load_diffusion_model,
    model_names,
)


class HarmonyCheckpointLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyCheckpointLoader",
            display_name="Harmony Checkpoint Loader",
            category="Harmony",
            description="Loads a checkpoint with everything it needs. The built-in one is part of this pack: "
            "no download.",
            search_aliases=["harmony", "audio video", "load harmony", "video with sound"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=checkpoint_names(),
                    tooltip="The built-in demonstration model, or a Harmony bundle in models/checkpoints.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model"),
                io.Clip.Output(display_name="clip", tooltip="Text encoder."),
                io.Vae.Output(display_name="vae", tooltip="Video autoencoder."),
                io.Vae.Output(display_name="audio_vae", tooltip="Audio autoencoder."),
            ],
        )

    @classmethod
    def execute(cls, checkpoint: str) -> io.NodeOutput:
        return io.NodeOutput(*load_checkpoint(checkpoint))


class HarmonyModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyModelLoader",
            display_name="Harmony Model Loader",
            category="Harmony",
            description="Loads a transformer alone: Harmony, Ovi or Wan2.2-TI2V-5B, as published, in one file or in "
            "parts. Autoencoders and text encoder come from core's VAELoader and CLIPLoader.",
            search_aliases=["harmony", "ovi", "wan2.2", "wan 5b", "load diffusion model", "unet loader"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_names(),
                    tooltip="A file in models/diffusion_models. Of a model in numbered shards, any one stands for all.",
                ),
                io.Combo.Input(
                    "audio_name",
                    options=[NO_FILE, *model_names()],
                    default=NO_FILE,
                    tooltip="The audio half, for an Ovi model that comes in two files.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="How weights are kept. fp8 halves the memory of 16-bit files and costs some quality; "
                    "fast also multiplies in fp8, on cards that can.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="Harmony and Ovi make video and sound; Wan2.2 alone is ComfyUI's own model of video.",
                )
            ],
        )

    @classmethod
    def execute(cls, model_name: str, audio_name: str, weight_dtype: str) -> io.NodeOutput:
        return io.NodeOutput(load_diffusion_model(model_name, audio_name, weight_dtype))
