"""Test-only nodes: save what the core cannot, and stand in for loaders of files too large to have."""

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


class HarmonyProbeLoader(io.ComfyNode):
    """In place of a core loader: the class it would load, small and with random weights."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyProbeLoader",
            category="Harmony/test",
            inputs=[io.Combo.Input("model", options=["umt5", "gemma", "wan22_vae", "mmaudio_vae"])],
            outputs=[io.AnyType.Output()],
        )

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        from . import core_models

        return io.NodeOutput(getattr(core_models, model)())


class HarmonyProbeWriteLTX2(io.ComfyNode):
    """Writes a small LTX-2 checkpoint with random weights, which core's own loaders load."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyProbeWriteLTX2",
            category="Harmony/test",
            is_output_node=True,
            not_idempotent=True,
            inputs=[io.String.Input("name")],
        )

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        from .core_models import write_ltx2

        write_ltx2(Path(folder_paths.models_dir) / "checkpoints" / name)
        return io.NodeOutput()


class ProbeExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [HarmonyProbeLatent, HarmonyProbeLoader, HarmonyProbeWriteLTX2]


async def comfy_entrypoint() -> ProbeExtension:
    return ProbeExtension()
