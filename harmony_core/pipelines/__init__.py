"""From a request to a finished clip."""

from .generate import GenerateRequest, Generation, HarmonyPipeline

__all__ = ["GenerateRequest", "Generation", "HarmonyPipeline"]
