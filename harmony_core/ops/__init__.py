"""Attention and normalisation ops. Each fast op has a naive twin with the same signature."""
