"""Lengths and sizes that every autoencoder checks alike."""

from __future__ import annotations


def check_num_samples(num_samples: int, samples_per_latent: int) -> None:
    """Raises ValueError, with the nearest length, unless `num_samples` is a whole number of latents."""
    if num_samples % samples_per_latent or num_samples == 0:
        near = max(round(num_samples / samples_per_latent), 1) * samples_per_latent
        raise ValueError(
            f"The audio has {num_samples} samples, but a multiple of {samples_per_latent} is needed; "
            f"cut or pad it to {near}."
        )


def check_video_shape(num_frames: int, height: int, width: int, frames_per_latent: int, pixels_per_latent: int) -> None:
    """Raises ValueError, with the fix, unless there are stride * n + 1 frames of whole latents."""
    if num_frames % frames_per_latent != 1:
        near = max(round((num_frames - 1) / frames_per_latent), 0) * frames_per_latent + 1
        raise ValueError(
            f"The video has {num_frames} frames, but {frames_per_latent}n+1 are needed; cut or pad it to {near}."
        )
    if height % pixels_per_latent or width % pixels_per_latent:
        raise ValueError(
            f"The video is {width}x{height}, but both must be multiples of {pixels_per_latent}; resize it."
        )
