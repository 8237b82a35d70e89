"""ComfyUI-Harmony: synced video and sound. ComfyUI loads this file; importing it needs neither ComfyUI nor torch."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """The V3 extension that holds this pack's nodes."""
    from .nodes import HarmonyExtension

    return HarmonyExtension()
