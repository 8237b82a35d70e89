"""Clips of the procedural world, rendered once, then encoded once.

Legend: N clips, C channels, T_v / T_a latent frames / audio latents, S tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ...checkpoints import CheckpointError
from ...checkpoints.weight_files import open_safetensors
from ...checkpoints.write import write_safetensors
from ...config import SpeechConfig
from ...diffusion.latents import AVLatents
from ...pixels import from_pixels
from ...text.tiny_encoder import TinyTextEncoder
from ...text.transcripts import tokenize_transcript
from ...toyworld import reference_audio, render, sample_scene

CHECKSUM = "sha256"  # in the metadata

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RenderedClips:
    """Pictures uint8 [N, F, H, W, 3], sound float16 [N, samples], references float16 [N, samples], and texts."""

    videos: np.ndarray
    sounds: np.ndarray
    references: np.ndarray
    video_captions: tuple[str, ...]
    audio_captions: tuple[str, ...]
    transcripts: tuple[str, ...]


def render_clips(count: int, first_seed: int, reference_seconds: float, progress: Progress) -> RenderedClips:
    """Scenes of seeds first_seed, first_seed + 1, ..., each with a reference of the same voice or material."""
    columns: tuple[list, ...] = ([], [], [], [], [], [])
    for index in range(count):
        rng = np.random.default_rng(first_seed + index)
        clip = render(sample_scene(rng))
        scene = clip.scene
        reference = reference_audio(scene, reference_seconds, rng)
        row = (
            clip.video,
            clip.audio.astype(np.float16),
            reference.astype(np.float16),
            scene.video_caption,
            scene.audio_caption,
            scene.transcript,
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        progress("render", index + 1, count)
    videos, sounds, references, *texts = columns
    return RenderedClips(np.stack(videos), np.stack(sounds), np.stack(references), *(tuple(text) for text in texts))


@dataclass(frozen=True)
class LatentDataset:
    """Encoded clips, in memory: latents float16, token ids int64."""

    video: Tensor  # [N, C, T_v, h, w]
    audio: Tensor  # [N, C, T_a]
    reference: Tensor  # [N, C, T_r]
    video_ids: Tensor  # [N, S]
    audio_ids: Tensor  # [N, S]
    transcript: Tensor  # [N, S]

    def __len__(self) -> int:
        return len(self.video)

    def take(self, rows: Tensor) -> tuple[AVLatents, Tensor, Tensor, Tensor, Tensor]:
        """(clean latents, reference, video ids, audio ids, transcript ids) of some rows, latents in float32."""
        clean = AVLatents(self.video[rows].float(), self.audio[rows].float())
        return clean, self.reference[rows].float(), self.video_ids[rows], self.audio_ids[rows], self.transcript[rows]

    def save(self, path: Path) -> None:
        write_safetensors(path, vars(self), {CHECKSUM: self._checksum()})

    def _checksum(self) -> str:
        total = hashlib.sha256()
        for tensor in vars(self).values():
            total.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
        return total.hexdigest()

    @classmethod
    def join(cls, parts: list[LatentDataset]) -> LatentDataset:
        """The clips of all parts, in order."""
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})

    @classmethod
    def load(cls, path: Path) -> LatentDataset:
        """What `save` wrote. Raises CheckpointError for a file whose bytes are no longer those."""
        with open_safetensors(path) as file:
            stated = (file.metadata() or {}).get(CHECKSUM)
            dataset = cls(**{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (a file has no others)
        if dataset._checksum() != stated:
            raise CheckpointError(f"{path.name} is damaged: its checksum is not the one that it was written with.")
        return dataset


@torch.no_grad()
def encode_clips(
    clips: RenderedClips,
    video_vae: TinyVideoVAE,
    audio_vae: TinyAudioVAE,
    text_encoder: TinyTextEncoder,
    speech: SpeechConfig,
    progress: Progress,
    chunk: int = 16,
) -> LatentDataset:
    """Latents and token ids of rendered clips."""
    video, audio, reference = [], [], []
    for start in range(0, len(clips.videos), chunk):
        rows = slice(start, start + chunk)
        pixels = from_pixels(clips.videos[rows]).transpose(1, 2)
        video.append(video_vae.encode(pixels).half())
        audio.append(audio_vae.encode(torch.from_numpy(clips.sounds[rows]).float()).half())
        reference.append(audio_vae.encode(torch.from_numpy(clips.references[rows]).float()).half())
        progress("encode", min(start + chunk, len(clips.videos)), len(clips.videos))

    def captions(texts: tuple[str, ...]) -> Tensor:
        return torch.stack([text_encoder.tokenize(text)[0] for text in texts])

    return LatentDataset(
        torch.cat(video),
        torch.cat(audio),
        torch.cat(reference),
        captions(clips.video_captions),
        captions(clips.audio_captions),
        torch.stack([tokenize_transcript(text, speech)[0] for text in clips.transcripts]),
    )
