"""RoPE positions of both branches and of the attention between them (docs/architecture.md: positions and windows).

Legend: B batch, L tokens, T_v / T_a latent frames / audio latents, P rotated pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import HarmonyConfig
from ..geometry import a2v_windows, as_fraction, clip_fps, group_windows, v2a_windows
from ..ops.framewise_attention.naive import Groups
from ..ops.rope import RopeTable, rope_table
from ..ops.tables import cached_tables
from .inputs import AudioInput, VideoInput

REFERENCE_GAP = 150  # temporal positions between appended references (DreamID-Omni)


@cached_tables
def video_rope(frames: int, height: int, width: int, config: HarmonyConfig, num_reference: int = 0) -> RopeTable:
    """3-D table over frames * height * width tokens, frame-major: temporal, height and width pairs in turn.

    Then `num_reference` more frames, appended references: the j-th (from 1) at temporal position 150 j.
    """
    times = torch.cat((torch.arange(frames), REFERENCE_GAP * (1 + torch.arange(num_reference)))).double()
    sides = (torch.arange(n, dtype=torch.float64) for n in (height, width))
    grid = torch.meshgrid(times, *sides, indexing="ij")
    return axes_rope(grid, config)


def axes_rope(axes: Iterable[Tensor], config: HarmonyConfig) -> RopeTable:
    """Table of tokens at these temporal, row and column positions, each on its share of a head's pairs."""
    parts = [rope_table(axis.reshape(1, -1), dim) for axis, dim in zip(axes, config.rope_dims, strict=True)]
    cos, sin = (torch.cat(tables, dim=-1) for tables in zip(*parts, strict=True))
    return cos, sin


def audio_positions(num_reference: int, num_audio: int, transcript_BS: Tensor | None) -> Tensor:
    """Positions of the audio sequence [reference ; target ; speech], float64 [B or 1, L].

    Reference -T_r .. -1, target 0 .. T_a - 1, speech token m of S unpadded ones at (m + 1/2) * T_a / S - 1/2.
    """
    line = torch.arange(-num_reference, num_audio, dtype=torch.float64).unsqueeze(0)
    if transcript_BS is None:
        return line
    spoken_B1 = (transcript_BS != 0).sum(dim=1, keepdim=True).clamp(min=1).double()
    index_1S = torch.arange(transcript_BS.shape[1], dtype=torch.float64, device=transcript_BS.device).unsqueeze(0)
    speech_BS = (index_1S + 0.5) * num_audio / spoken_B1 - 0.5
    return torch.cat((line.to(speech_BS.device).expand(len(speech_BS), -1), speech_BS), dim=1)


def audio_rope(num_reference: int, num_audio: int, transcript_BS: Tensor | None, config: HarmonyConfig) -> RopeTable:
    """1-D table over the audio sequence, on the temporal pairs of a head."""
    positions = audio_positions(num_reference, num_audio, transcript_BS) * config.audio_rope_scale
    return rope_table(positions, config.audio_rope_dim)


@cached_tables
def appended_audio_rope(num_audio: int, num_reference: int, reference_length: int, config: HarmonyConfig) -> RopeTable:
    """1-D table over [target ; references], the j-th reference (from 1) beside its image: at int(150 / scale) j."""
    starts = int(REFERENCE_GAP / config.audio_rope_scale) * (1 + torch.arange(num_reference))
    references = (starts[:, None] + torch.arange(reference_length)).flatten()
    positions = torch.cat((torch.arange(num_audio), references)).double().unsqueeze(0)
    return rope_table(positions * config.audio_rope_scale, config.rope_dims[0])


@cached_tables
def cross_rope(
    num_latent_frames: int, tokens_per_frame: int, num_audio: int, config: HarmonyConfig
) -> dict[str, tuple[RopeTable, RopeTable]]:
    """Query and key tables of frame-wise attention, per direction. Only temporal pairs rotate (paper 3.3).

    The source's index is rescaled to the target's timeline: `index` by the ratio of lengths (the paper's),
    `timestamp` by true times, `none` not at all (what the paper's alignment is held against).
    """
    video = torch.arange(num_latent_frames, dtype=torch.float64)
    audio = torch.arange(num_audio, dtype=torch.float64)
    if config.rope_alignment == "timestamp":
        fps = float(clip_fps(num_latent_frames, num_audio, config))
        rate = float(as_fraction(config.audio_latent_rate))
        audio_on_video = (fps * (audio + 0.5) / rate + 1) / 4
        video_on_audio = (4 * video - 1) / fps * rate - 0.5
    elif config.rope_alignment == "none":
        audio_on_video, video_on_audio = audio, video
    else:
        audio_on_video = audio * num_latent_frames / num_audio
        video_on_audio = video * num_audio / num_latent_frames

    def table(positions: Tensor, repeats: int) -> RopeTable:
        scaled = positions.repeat_interleave(repeats).unsqueeze(0) * config.cross_rope_scale
        return rope_table(scaled, config.rope_dims[0])

    return {
        "a2v": (table(video, tokens_per_frame), table(audio_on_video, 1)),
        "v2a": (table(audio, 1), table(video_on_audio, tokens_per_frame)),
    }


def to_device(table: RopeTable, device: torch.device) -> RopeTable:
    return table[0].to(device), table[1].to(device)


@dataclass(frozen=True)
class CrossGeometry:
    """Windows and positions of one direction of the attention between the streams."""

    groups: Groups
    rope_q: RopeTable
    rope_k: RopeTable


def audio_stream_rope(audio: AudioInput, config: HarmonyConfig) -> RopeTable:
    """The table of the audio sequence that this input makes, on its device."""
    length, reference, device = audio.latents.shape[2], audio.reference, audio.latents.device
    if config.references == "appended":
        if reference is None:
            count, reference_length = 0, 0
        else:
            count, reference_length = (1 if reference.ndim == 3 else reference.shape[2]), reference.shape[-1]
        return to_device(appended_audio_rope(length, count, reference_length, config), device)
    num_reference = 0 if reference is None else reference.shape[2]
    if config.references == "leading":
        return to_device(audio_rope(0, num_reference + length, None, config), device)
    return to_device(audio_rope(num_reference, length, audio.transcript, config), device)


def text_rope(length: int, config: HarmonyConfig, device: torch.device) -> RopeTable:
    """Of a transcript that the audio branch reads across: positions 0, 1, ..., on the pairs of audio positions."""
    return to_device(rope_table(torch.arange(length).unsqueeze(0), config.audio_rope_dim), device)


class CrossGeometries(NamedTuple):
    """Both directions."""

    a2v: CrossGeometry
    v2a: CrossGeometry


def cross_geometry(video: VideoInput, audio: AudioInput, config: HarmonyConfig) -> CrossGeometries:
    """A2V and V2A: all of both streams at their own positions (`ovi`), else windows on a shared timeline."""
    frames, height, width = config.grid(video.latents.shape)
    device, num_audio = video.latents.device, audio.latents.shape[2]
    if config.rope_alignment == "ovi":
        num_reference = 0 if video.reference is None else video.reference.shape[2]
        table_v = to_device(video_rope(frames, height, width, config, num_reference), device)
        table_a = audio_stream_rope(audio, config)
        return CrossGeometries(CrossGeometry((), table_v, table_a), CrossGeometry((), table_a, table_v))
    tokens = height * width
    tables = cross_rope(frames, tokens, num_audio, config)
    a2v_groups, v2a_groups = cross_windows(frames, tokens, num_audio, config)
    return CrossGeometries(
        CrossGeometry(a2v_groups, *(to_device(table, device) for table in tables["a2v"])),
        CrossGeometry(v2a_groups, *(to_device(table, device) for table in tables["v2a"])),
    )


def cross_windows(
    num_latent_frames: int, tokens_per_frame: int, num_audio: int, config: HarmonyConfig
) -> tuple[Groups, Groups]:
    """Windows of A2V and V2A in tokens: (query_start, query_end, key_start, key_end) each."""
    tokens = tokens_per_frame
    a2v = tuple(
        (i * tokens, (i + 1) * tokens, start, end)
        for i, (start, end) in enumerate(a2v_windows(num_latent_frames, num_audio, config))
    )
    v2a = tuple(
        (first, last, start * tokens, end * tokens)
        for first, last, start, end in group_windows(v2a_windows(num_latent_frames, num_audio, config))
    )
    return a2v, v2a
