"""Clips of the procedural world, rendered once, then encoded once: as a data set in memory, or as shards.

Legend: N clips, C channels, T_v / T_a latent frames / audio latents, S tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ...checkpoints import CheckpointError
from ...checkpoints.weight_files import open_safetensors
from ...checkpoints.write import write_safetensors
from ...config import HarmonyConfig, SpeechConfig
from ...diffusion.anchors import mute_audio
from ...diffusion.latents import AVLatents
from ...geometry import ClipGeometry
from ...pixels import from_pixels
from ...text.tiny_encoder import TinyTextEncoder
from ...text.transcripts import tokenize_transcript
from ...toyworld import reference_audio, render, sample_scene
from .buckets import bucket_name
from .encode import settings_of
from .shards import MUTE, Entry, Shards
from .writer import ShardWriter, begin, finish, written

if TYPE_CHECKING:
    from accelerate import PartialState

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


@torch.no_grad()
def write_toy_shards(
    folder: Path,
    count: int,
    reference_seconds: float,
    config: HarmonyConfig,
    video_vae: TinyVideoVAE,
    audio_vae: TinyAudioVAE,
    text_encoder: TinyTextEncoder,
    state: PartialState,
    progress: Progress,
) -> Shards:
    """Scenes of seeds 0, 1, ..., `count` - 1 as shards, each with a reference of the same voice or material.

    Process r renders every scene whose seed leaves r, and none that `folder` holds already. Raises as `begin`.
    """
    geometry = ClipGeometry.from_seconds(config.seconds, config.fps, config.height, config.width, config)
    speech = config.speech
    assert speech is not None  # TrainingConfig has seen to it
    bucket = bucket_name(geometry, has_video=True)
    if state.is_main_process:
        source = f"procedural world, {reference_seconds:g} s of reference"
        begin(folder, settings_of(source, config, video_vae, audio_vae, text_encoder, (bucket,)))
    state.wait_for_everyone()
    done = {entry.row for entry in written(folder)}
    state.wait_for_everyone()  # all have read before one writes
    writer = ShardWriter(folder, state.process_index)
    for seed in range(state.process_index, count, state.num_processes):
        entry = _toy_entry(seed, geometry, bucket)
        if entry.row not in done:
            rendered = render_clips(1, seed, reference_seconds, _in_silence)
            clip = encode_clips(rendered, video_vae, audio_vae, text_encoder, speech, _in_silence)
            tensors = {"video": clip.video, "audio": clip.audio, "reference": clip.reference}
            tensors |= {"text": clip.video_ids, "audio_text": clip.audio_ids, "transcript": clip.transcript}
            speaks = bool(rendered.transcripts[0])
            writer.add(replace(entry, speech=speaks), {name: tensor[0] for name, tensor in tensors.items()})
        progress("encode", seed + 1, count)
    writer.flush()
    state.wait_for_everyone()
    if state.is_main_process:
        mute = mute_audio(audio_vae, geometry)[0].half()
        write_safetensors(folder / MUTE, {str(geometry.num_audio_latents): mute})
        finish(folder, {entry.id: entry.row for entry in (_toy_entry(seed, geometry, bucket) for seed in range(count))})
    state.wait_for_everyone()
    return Shards(folder)


def _toy_entry(seed: int, geometry: ClipGeometry, bucket: str) -> Entry:
    return Entry(
        id=f"scene {seed}",
        row=f"scene-{seed:08d}",
        shard="",
        shapes={},
        bucket=bucket,
        frames=geometry.num_frames,
        audio_latents=geometry.num_audio_latents,
        duration=geometry.duration_s,
        start=0.0,
        end=geometry.duration_s,
        checksum="",
        recording=f"scene {seed}",
        language="en",
    )


def _in_silence(stage: str, done: int, total: int) -> None:
    """The progress of a single clip, which nobody needs."""
