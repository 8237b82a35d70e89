"""Nodes that load checkpoints."""

from __future__ import annotations

from comfy_api.latest import io

from .host.loader import checkpoint_names, load_checkpoint


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
