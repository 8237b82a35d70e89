"""Nodes for LoRA files."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.lora import apply_lora, lora_names


class HarmonyLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        strength = {"default": 1.0, "min": -20.0, "max": 20.0, "step": 0.01}
        return io.Schema(
            node_id="HarmonyLora",
            display_name="Harmony LoRA",
            category="Harmony",
            description="Puts a LoRA on a model of video and sound, with a strength for each.",
            search_aliases=["lora", "load lora", "harmony lora", "video lora", "voice lora"],
            inputs=[
                io.Model.Input("model"),
                io.Combo.Input(
                    "lora_name",
                    options=lora_names(),
                    tooltip="A file in models/loras: trained on Harmony, Ovi or Wan2.2-5B (that one has video only).",
                ),
                io.Float.Input(
                    "video_strength",
                    **strength,
                    tooltip="For the video layers and for what the video hears. 0 = as if they were not in the file.",
                ),
                io.Float.Input(
                    "audio_strength",
                    **strength,
                    tooltip="For the audio layers, speech, and what the sound sees. "
                    "0 = as if they were not in the file.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model: Any, lora_name: str, video_strength: float, audio_strength: float) -> io.NodeOutput:
        return io.NodeOutput(apply_lora(model, lora_name, video_strength, audio_strength))
