"""HarmonyTransformer: a Wan transformer, an audio branch beside it, and an interaction per layer (paper 3.2.2, 3.3).

Its state dict is the published layout: video keys at the top level with Wan2.2's names, audio under `audio.` with the
same names, `interactions.N.{a2v,v2a,style}.*`, `speech.*`.

Legend: B batch, C channels, T_v / T_a latent frames / audio latents, L tokens, D width.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..config import HarmonyConfig
from . import layers
from .blocks import Attention, Reading, torch_attention
from .branch import AudioBranch, Branch, StoppedStream, Stream
from .inputs import AudioInput, Rows, VideoInput, pick_rows
from .interaction import Meeting
from .interactions import KINDS
from .roles import AUDIO_GIVEN, JOINT, VIDEO_GIVEN, RowGroups, put_rows
from .rope import audio_stream_rope, text_rope, to_device, video_rope
from .speech import SpeechEncoder, own_lengths

ALL_JOINT = Rows()


class HarmonyTransformer(Branch):
    """Velocities of both latents.

    Args:
        operations: namespace of layer classes (default `layers`, torch's own); ComfyUI injects its casting ones.
    """

    def __init__(
        self,
        config: HarmonyConfig,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        operations: Any = layers,
    ) -> None:
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        patch, width = config.patch_size, config.video_width
        super().__init__(config, width, config.video_channels * math.prod(patch), operations, **factory)
        self.patch_embedding = operations.Conv3d(
            config.video_channels, width.dim, kernel_size=patch, stride=patch, **factory
        )
        if config.audio:
            self.audio = AudioBranch(config, operations, **factory)
        if config.interaction != "none":
            kind = KINDS[config.interaction]
            self.interactions = nn.ModuleList(
                kind(config, index, operations, **factory) for index in range(len(config.layers_with_interaction))
            )
        if config.speech is not None:
            self.speech = SpeechEncoder(config.speech, config.audio_width.dim, operations, **factory)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Video, and audio where there is one."""
        return (self, self.audio) if self.config.audio else (self,)

    def forward(
        self,
        video: VideoInput,
        audio: AudioInput | None = None,
        rows: Rows = ALL_JOINT,
        attention: Attention = torch_attention,
    ) -> tuple[Tensor, Tensor | None]:
        """Predict velocity = noise - clean for both latents.

        Args:
            audio: None for a model without an audio branch.
            attention: self, text and style attention; frame-wise attention is always `ops.registry`'s.

        Returns:
            Velocities in the shapes of both latents; zero for a driver stream that came from the cache.
        """
        batch = len(video.latents)
        nobody = (None,) * batch
        groups = RowGroups.build(rows.roles or (JOINT,) * batch, rows.drivers or nobody, rows.cache)
        video_stream = self._video_stream(pick_rows(video, groups.video_rows)) if groups.video_rows else None
        audio_stream, meeting, target = None, None, slice(0)
        if audio is not None:
            audio = self._with_speech(audio)
            if groups.audio_rows:
                audio_stream = self._audio_stream(pick_rows(audio, groups.audio_rows))
            target = self._target(audio)
            if self.config.interaction != "none":
                geometry = KINDS[self.config.interaction].geometry(video, audio, self.config)
                frames = self.config.grid(video.latents.shape)[0]
                e_video = video.latents.new_empty(0) if video_stream is None else video_stream.e_BTD
                meeting = Meeting(groups.groups, rows.cache, attention, geometry, target, frames, e_video)
        if rows.stop_drivers:
            spans = {group.role: (group.video, group.audio) for group in groups.groups}
            video_stream = _stopped(video_stream, spans.get(VIDEO_GIVEN, (None, None))[0])
            audio_stream = _stopped(audio_stream, spans.get(AUDIO_GIVEN, (None, None))[1])
        for index in range(self.config.num_layers):
            if index not in rows.skip_layers:
                self.layer(index, video_stream, audio_stream, attention, meeting)
        if rows.cache is not None:
            rows.cache.finish()
        velocity_video = self._video_velocity(video_stream, video.latents, groups.video_rows)
        if audio is None:
            return velocity_video, None
        return velocity_video, self._audio_velocity(audio_stream, audio.latents, target, groups.audio_rows)

    def layer(
        self,
        index: int,
        video: Stream | StoppedStream | None,
        audio: Stream | StoppedStream | None,
        attention: Attention,
        meeting: Meeting | None,
    ) -> None:
        """One layer of both branches, which see each other's state after self-attention or behind the blocks."""
        streams = [
            (stream, branch.blocks[index]) for stream, branch in zip((video, audio), self.branches, strict=False)
        ]
        running = [(stream, block) for stream, block in streams if stream is not None]
        interaction = self._interaction_of(index) if meeting is not None else None
        halves = interaction is not None and not interaction.after_block
        for stream, block in running:
            stream.attend(block, attention) if halves else stream.through(block, attention)
        if interaction is None:
            return
        into = interaction(*(None if stream is None else stream.x_BLD for stream, _ in streams), meeting)
        if interaction.after_block:
            for (stream, _), beside in zip(streams, into, strict=True):
                if stream is not None:
                    stream.add(beside.residual_BLD)
            return
        for (stream, block), beside in zip(streams, into, strict=True):
            if stream is not None:
                stream.finish(block, attention, beside)

    def _interaction_of(self, layer: int) -> Any:
        """None for a layer that has none."""
        layers = self.config.layers_with_interaction
        return self.interactions[layers.index(layer)] if layer in layers else None

    def _video_stream(self, video: VideoInput) -> Stream:
        latents, sigma, num_reference = video.latents, video.sigma, 0
        if video.reference is not None and self.config.references == "leading":
            latents = torch.cat((video.reference.to(latents), latents), dim=2)
            sigma = torch.cat((torch.zeros_like(sigma[:, : video.reference.shape[2]]), sigma), dim=1)
        elif video.reference is not None:
            num_reference = video.reference.shape[2]
            latents = torch.cat((latents, video.reference.to(latents)), dim=2)
            # Clean, but labelled with the target's noise level, as in training (DreamID-Omni).
            sigma = torch.cat((sigma, sigma[:, -1:].expand(-1, num_reference)), dim=1)
        x_BLD = self.patch_embedding(latents)
        frames, height, width = x_BLD.shape[2:]
        rope = video_rope(frames - num_reference, height, width, self.config, num_reference)
        times = self.embed_time(sigma, x_BLD.dtype)
        tokens = x_BLD.flatten(2).transpose(1, 2).contiguous()
        return Stream(tokens, *times, self.embed_text(video.context), to_device(rope, latents.device))

    def _with_speech(self, audio: AudioInput) -> AudioInput:
        """The input as this model's audio sequence has it: no transcript, or always one of full length."""
        speech, latents = self.config.speech, audio.latents
        if speech is None:
            return replace(audio, transcript=None)
        if audio.transcript is not None:
            return audio
        silent = torch.zeros(len(latents), speech.fixed_len, dtype=torch.long, device=latents.device)
        return replace(audio, transcript=silent)

    def _audio_stream(self, audio: AudioInput) -> Stream:
        if self.config.references == "leading":
            return self._audio_stream_with_transcript(audio)
        latents, sigmas = audio.latents, [audio.sigma]
        if audio.reference is not None and self.config.references == "appended":
            latents = torch.cat((latents, audio.reference.to(latents).flatten(2)), dim=2)
            sigmas.append(audio.sigma[:, -1:].expand(-1, latents.shape[2] - audio.latents.shape[2]))
        elif audio.reference is not None:
            latents = torch.cat((audio.reference.to(latents), latents), dim=2)
            sigmas.insert(0, audio.sigma.new_zeros(len(latents), audio.reference.shape[2]))
        parts = [self.audio.embed(latents)]
        if audio.transcript is not None:
            parts.append(self.speech(audio.transcript, parts[0].dtype))
            sigmas.append(audio.sigma.new_zeros(audio.transcript.shape))
        x_BLD = torch.cat(parts, dim=1)
        times = self.audio.embed_time(torch.cat(sigmas, dim=1), x_BLD.dtype)
        return Stream(x_BLD, *times, self.audio.embed_text(audio.context), audio_stream_rope(audio, self.config))

    def _audio_stream_with_transcript(self, audio: AudioInput) -> Stream:
        """[reference ; target] at one noise level, and the transcript as its text (UniAVGen)."""
        latents = audio.latents
        if audio.reference is not None:
            latents = torch.cat((audio.reference.to(latents), latents), dim=2)
        x_BLD = self.audio.embed(latents)
        times = self.audio.embed_time(audio.sigma.amin(1, keepdim=True).expand(-1, latents.shape[2]), x_BLD.dtype)
        rope = audio_stream_rope(audio, self.config)
        assert audio.transcript is not None
        lengths = own_lengths(audio.transcript)
        text = self.speech.encode_rows(audio.transcript, lengths, x_BLD.dtype)
        reading = Reading(rope, text_rope(text.shape[1], self.config, text.device), lengths)
        return Stream(x_BLD, *times, text, rope, reading)

    def _target(self, audio: AudioInput) -> slice:
        """The target latents in the audio sequence."""
        num_reference = 0
        if audio.reference is not None and self.config.references != "appended":
            num_reference = audio.reference.shape[2]
        return slice(num_reference, num_reference + audio.latents.shape[2])

    def _video_velocity(self, stream: Stream | StoppedStream | None, latents: Tensor, rows: tuple[int, ...]) -> Tensor:
        """Head and unpatchify (patch axes first, channel last in the head's output), rows in the caller's order."""
        if stream is None:
            return torch.zeros_like(latents)
        grid = self.config.grid(latents.shape)
        if self.config.references == "leading":
            out = self.head(stream.x_BLD[:, -math.prod(grid) :], stream.e_BTD[:, -grid[0] :])
        else:
            out = self.head(stream.x_BLD[:, : math.prod(grid)], stream.e_BTD[:, : grid[0]])
        out = out.unflatten(1, grid).unflatten(-1, (*self.config.patch_size, -1))
        out = out.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(len(out), *latents.shape[1:])
        return put_rows(out, rows, len(latents))

    def _audio_velocity(
        self, stream: Stream | StoppedStream | None, latents: Tensor, target: slice, rows: tuple[int, ...]
    ) -> Tensor:
        if stream is None:
            return torch.zeros_like(latents)
        out = self.audio.head(stream.x_BLD[:, target], stream.e_BTD[:, target])
        return put_rows(out.transpose(1, 2), rows, len(latents))


def _stopped(stream: Stream | None, drivers: slice | None) -> Stream | StoppedStream | None:
    return stream if stream is None or drivers is None else StoppedStream(stream, drivers)
