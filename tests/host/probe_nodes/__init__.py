"""Test-only nodes: save what the core cannot, and stand in for loaders of files too large to have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import ComfyExtension, io

CORE = ("umt5", "gemma", "wan22_vae", "mmaudio_vae")
H3 = ("h3_text", "h3_vae", "h3_audio_vae")


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
            inputs=[io.Combo.Input("model", options=[*CORE, *H3])],
            outputs=[io.AnyType.Output()],
        )

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        from importlib import import_module

        models = import_module(".h3_models" if model in H3 else ".core_models", __package__)
        return io.NodeOutput(getattr(models, model)())


class HarmonyProbeWrite(io.ComfyNode):
    """Writes a small model file with random weights, which core's own loaders load."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyProbeWrite",
            category="Harmony/test",
            is_output_node=True,
            not_idempotent=True,
            inputs=[io.Combo.Input("model", options=["ltx2", "h3", "wan22_vae"]), io.String.Input("name")],
        )

    @classmethod
    def execute(cls, model: str, name: str) -> io.NodeOutput:
        folder = Path(folder_paths.models_dir)
        if model == "ltx2":
            from .core_models import write_ltx2

            write_ltx2(folder / "checkpoints" / name)
        elif model == "wan22_vae":
            from .core_models import write_wan22_vae

            write_wan22_vae(folder / "vae" / name)
        else:
            from .h3_models import write_h3

            write_h3(folder / "diffusion_models" / name)
        return io.NodeOutput()


class HarmonyProbePasses(io.ComfyNode):
    """A model that writes the noise levels of every row of its passes: of the last video latent, of the last sound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyProbePasses",
            category="Harmony/test",
            inputs=[io.Model.Input("model"), io.String.Input("name")],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, name: str) -> io.NodeOutput:
        from comfy.patcher_extension import WrappersMP

        seen = []

        def watch(executor: Any, x: Any, timestep: Any, *args: Any, **kwargs: Any) -> Any:
            levels = timestep if isinstance(timestep, list | tuple) else [timestep]  # LTX-2 may have one for both
            last = (level.reshape(len(level), -1)[:, -1].tolist() for level in levels)
            seen.append(list(zip(*last, strict=True)))
            (Path(folder_paths.get_output_directory()) / f"{name}.json").write_text(json.dumps(seen))
            return executor(x, timestep, *args, **kwargs)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "probe", watch)
        return io.NodeOutput(model)


class ProbeExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [HarmonyProbeLatent, HarmonyProbeLoader, HarmonyProbeWrite, HarmonyProbePasses]


async def comfy_entrypoint() -> ProbeExtension:
    return ProbeExtension()
