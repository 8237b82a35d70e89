"""Test-only nodes: write what the core cannot save to files that the tests read."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import ComfyExtension, io


class HarmonyProbeLatent(io.ComfyNode):
    """Saves both parts of an audio-video latent, which core's SaveLatent cannot."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyProbeLatent",
            category="Harmony/test",
            is_output_node=True,
            not_idempotent=True,
            inputs=[io.Latent.Input("latent"), io.String.Input("name")],
        )

    @classmethod
    def execute(cls, latent: dict, name: str) -> io.NodeOutput:
        from safetensors.torch import save_file

        samples = latent["samples"]
        parts = samples.unbind() if samples.is_nested else [samples]
        tensors = {key: part.contiguous().cpu() for key, part in zip(("video", "audio"), parts, strict=False)}
        save_file(tensors, Path(folder_paths.get_output_directory()) / f"{name}.safetensors")
        return io.NodeOutput()


class ProbeExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [HarmonyProbeLatent]


async def comfy_entrypoint() -> ProbeExtension:
    return ProbeExtension()
