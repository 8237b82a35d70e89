"""The Harmony transformer."""

from .transformer import HarmonyTransformer

__all__ = ["HarmonyTransformer"]
