"""ComfyUI nodes, one file a concern. Each file is imported behind its own guard: a broken one costs its nodes only."""

from __future__ import annotations

import importlib
import logging
from functools import wraps
from typing import Any

from comfy_api.latest import ComfyExtension, io

logger = logging.getLogger(__name__)

NODES: dict[str, tuple[str, ...]] = {
    "loaders": ("HarmonyCheckpointLoader", "HarmonyModelLoader", "HarmonyAudioVAELoader"),
    "lora": ("HarmonyLora",),
    "text": ("HarmonyTextEncode",),
    "clip": ("HarmonyClip", "HarmonyAnchors"),
    "guidance": ("HarmonySyncCFG",),
    "sampler": ("HarmonySampler", "HarmonyScheduler"),
    "given": ("HarmonyGivenAudio", "HarmonyGivenVideo", "HarmonyFirstFrame"),
    "reference": ("HarmonyReferenceAudio", "HarmonyReferenceImage"),
    "decode": ("HarmonyDecode",),
    "report": ("HarmonySyncReport",),
    "sync_map": ("HarmonySyncMap",),
}


# What is done once at start, and what is lost where that fails.
ON_LOAD = {
    ("registration", "register_model"): "ComfyUI's own loaders will not know Harmony files",
    ("examples", "copy_examples"): "the templates' example files are not in the input folder",
}


class HarmonyExtension(ComfyExtension):
    """Registers the model with ComfyUI, then lists every node whose module imports."""

    async def on_load(self) -> None:
        for (name, function), lost in ON_LOAD.items():
            try:
                getattr(importlib.import_module(f".host.{name}", __package__), function)()
            except Exception as error:
                logger.warning("Harmony: %s: %s", lost, _reason(error))

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        found: list[type[io.ComfyNode]] = []
        for name, classes in NODES.items():
            try:
                module = importlib.import_module(f".{name}", __package__)
                found += [with_plain_errors(getattr(module, class_name)) for class_name in classes]
            except Exception as error:
                logger.warning("Harmony: %s not available: %s", ", ".join(classes), _reason(error))
        return found


def with_plain_errors(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The node, whose refusals are ValueErrors by name: ComfyUI's page shows other classes with the path of their file
    in front, which leaves no room for the reason."""
    execute = node.execute.__func__

    @wraps(execute)
    def plain(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> Any:
        try:
            return execute(cls, *args, **kwargs)
        except ValueError as error:
            if type(error) is ValueError:
                raise
            raise ValueError(str(error)) from error

    node.execute = classmethod(plain)  # pyright: ignore[reportAttributeAccessIssue] a class method as before
    return node


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
