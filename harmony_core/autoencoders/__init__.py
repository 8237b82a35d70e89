"""Autoencoders: pixels and samples to latents and back."""

from .tiny import TinyAudioVAE, TinyVideoVAE

__all__ = ["TinyAudioVAE", "TinyVideoVAE"]
