"""Clips for training: from files to latents on disk, and from there to batches."""
