"""From a request to a finished clip."""

from ..checkpoints.parts import PartFiles
from ..request import GenerateRequest, Generation
from .generate import HarmonyPipeline

__all__ = ["GenerateRequest", "Generation", "HarmonyPipeline", "PartFiles"]
