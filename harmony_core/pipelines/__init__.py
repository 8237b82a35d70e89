"""From a request to a finished clip."""

from ..request import GenerateRequest, Generation
from .generate import HarmonyPipeline
from .parts import PartFiles

__all__ = ["GenerateRequest", "Generation", "HarmonyPipeline", "PartFiles"]
