"""From a request to a finished clip."""

from ..checkpoints.parts import PartFiles
from .generate import GenerateRequest, Generation, HarmonyPipeline

__all__ = ["GenerateRequest", "Generation", "HarmonyPipeline", "PartFiles"]
