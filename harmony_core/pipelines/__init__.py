"""From a request to a finished clip."""

from .generate import GenerateRequest, Generation, HarmonyPipeline
from .parts import PartFiles

__all__ = ["GenerateRequest", "Generation", "HarmonyPipeline", "PartFiles"]
