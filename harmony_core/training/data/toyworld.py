"""Clips of the procedural world: rendered, and encoded into shards.

Legend: N clips, C channels, T_v / T_a latent frames / audio latents, S tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ...checkpoints.write import write_safetensors
from ...config import HarmonyConfig, SpeechConfig
from ...diffusion.anchors import mute_audio
from ...geometry import ClipGeometry
from ...pixels import from_pixels
from ...text.tiny_encoder import TinyTextEncoder
from ...text.transcripts import tokenize_transcript
from ...toyworld import PLAIN, WORLDS, reference_audio, render
from .buckets import bucket_name
from .encode import settings_of
from .shards import EMPTY, Entry, Shards
from .writer import ShardWriter, begin, finish, written

if TYPE_CHECKING:
    from accelerate import PartialState

PIECE = 16  # scenes that are encoded together

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


def render_clips(
    count: int, first_seed: int, reference_seconds: float, progress: Progress, world: str = PLAIN
) -> RenderedClips:
    """Scenes of seeds first_seed, first_seed + 1, ..., each with a reference of the same voice or material."""
    columns: tuple[list, ...] = ([], [], [], [], [], [])
    for index in range(count):
        rng = np.random.default_rng(first_seed + index)
        clip = render(WORLDS[world](rng))
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


@torch.no_grad()
def encode_clips(
    clips: RenderedClips,
    video_vae: TinyVideoVAE,
    audio_vae: TinyAudioVAE,
    text_encoder: TinyTextEncoder,
    speech: SpeechConfig | None,
) -> dict[str, Tensor]:
    """Latents float16 and token ids of rendered clips, by a shard's parts: [N, ...] each."""
    sounds, references = (torch.from_numpy(each).float() for each in (clips.sounds, clips.references))
    tensors = {
        "video": video_vae.encode(from_pixels(clips.videos).transpose(1, 2)).half(),
        "audio": audio_vae.encode(sounds).half(),
        "reference": audio_vae.encode(references).half(),
        "text": torch.stack([text_encoder.tokenize(text)[0] for text in clips.video_captions]),
        "audio_text": torch.stack([text_encoder.tokenize(text)[0] for text in clips.audio_captions]),
    }
    if speech is not None:
        tensors["transcript"] = torch.stack([tokenize_transcript(text, speech)[0] for text in clips.transcripts])
    return tensors


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
    world: str = PLAIN,
) -> Shards:
    """Scenes of seeds 0, 1, ..., `count` - 1 as shards, each with a reference of the same voice or material.

    Process r makes every piece of `PIECE` scenes whose place leaves r, but of no scene that `folder` holds already.
    Raises as `begin`.
    """
    geometry = ClipGeometry.from_seconds(config.seconds, config.fps, config.height, config.width, config)
    bucket = bucket_name(geometry, has_video=True)
    if state.is_main_process:
        name = "procedural world" if world == PLAIN else f"{world} procedural world"
        source = f"{name}, {reference_seconds:g} s of reference"
        begin(folder, settings_of(source, config, video_vae, audio_vae, text_encoder, (bucket,)))
    state.wait_for_everyone()
    done = {entry.row for entry in written(folder)}
    state.wait_for_everyone()  # all have read before one writes
    writer = ShardWriter(folder, state.process_index)
    for first in range(state.process_index * PIECE, count, state.num_processes * PIECE):
        entries = [_toy_entry(seed, geometry, bucket) for seed in range(first, min(first + PIECE, count))]
        if any(entry.row not in done for entry in entries):
            rendered = render_clips(len(entries), first, reference_seconds, _in_silence, world)
            tensors = encode_clips(rendered, video_vae, audio_vae, text_encoder, config.speech)
            for place, entry in enumerate(entries):
                if entry.row not in done:
                    speaks = bool(rendered.transcripts[place])
                    writer.add(replace(entry, speech=speaks), {name: each[place] for name, each in tensors.items()})
        progress("encode", first + len(entries), count)
    writer.flush()
    state.wait_for_everyone()
    if state.is_main_process:
        mute = mute_audio(audio_vae, geometry)[0].half()
        write_safetensors(folder / EMPTY, {f"mute.{geometry.num_audio_latents}": mute})
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
    """The progress within a piece, which nobody needs."""
