"""HarmonyTransformer: a Wan transformer, an audio branch beside it, and an interaction per layer (paper 3.2.2, 3.3).

Its state dict is the published layout: video keys at the top level with Wan2.2's names, audio under `audio.` with the
same names, `interactions.N.{a2v,v2a,style}.*`, `speech.*`.

Legend: B batch, C channels, T_v / T_a latent frames / audio latents, T latent positions of a branch (audio: its
tokens), L tokens, S context tokens, K distinct noise levels, D width.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import HarmonyConfig
from ..geometry import a2v_windows, group_windows, v2a_windows
from ..ops.rope import RopeTable
from . import layers
from .blocks import Attention, Block, torch_attention
from .driver_cache import DriverCache
from .embeddings import Head, SwiGLUConvEmbedding, timestep_embedding
from .interaction import CrossGeometry, Interaction, rowwise_fusion
from .roles import JOINT, RowGroup, RowPlan, put_rows, take_rows
from .rope import appended_audio_rope, audio_rope, cross_rope, to_device, video_rope
from .speech import SpeechEncoder


class Branch(nn.Module):
    """What a video and an audio transformer have in common."""

    def __init__(self, config: HarmonyConfig, out_dim: int, operations, **factory) -> None:
        super().__init__()
        dim = config.dim
        self.config = config
        self.text_embedding = nn.Sequential(
            operations.Linear(config.text_dim, dim, **factory),
            nn.GELU(approximate="tanh"),
            operations.Linear(dim, dim, **factory),
        )
        self.time_embedding = nn.Sequential(
            operations.Linear(config.freq_dim, dim, **factory), nn.SiLU(), operations.Linear(dim, dim, **factory)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), operations.Linear(dim, 6 * dim, **factory))
        self.blocks = nn.ModuleList(Block(config, operations, **factory) for _ in range(config.num_layers))
        self.head = Head(dim, out_dim, config.eps, operations, **factory)

    def embed_time(self, sigma_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Time embedding [B, T, D] and its projection [B, T, 6, D], computed once per distinct sigma."""
        sigma_K, index_BT = torch.unique(sigma_BT, return_inverse=True)
        e_KD = self.time_embedding(timestep_embedding(sigma_K, self.config.freq_dim).to(dtype))
        e_K6D = self.time_projection(e_KD).unflatten(-1, (6, -1))
        return e_KD[index_BT], e_K6D[index_BT]

    def embed_text(self, context_BSC: Tensor) -> Tensor:
        """Zero-pad to `text_len` first: padding rows become a constant that is attended to, as in Wan."""
        length, limit = context_BSC.shape[1], self.config.text_len
        if length > limit:
            raise ValueError(f"The text has {length} tokens, but this model takes {limit}; shorten the prompt.")
        return self.text_embedding(nn.functional.pad(context_BSC, (0, 0, 0, limit - length)))


class AudioBranch(Branch):
    """The audio transformer: one token per latent."""

    def __init__(self, config: HarmonyConfig, operations, **factory) -> None:
        super().__init__(config, config.audio_channels, operations, **factory)
        if config.audio_patch_embedding == "linear":
            self.patch_embedding = operations.Conv1d(config.audio_channels, config.dim, kernel_size=1, **factory)
        else:
            self.patch_embedding = nn.Sequential(
                operations.Conv1d(config.audio_channels, config.dim, kernel_size=7, padding=3, **factory),
                nn.SiLU(),
                SwiGLUConvEmbedding(config.dim, config.audio_ffn_conv_dim, operations, **factory),
            )

    def embed(self, latents_BCT: Tensor) -> Tensor:
        return self.patch_embedding(latents_BCT).transpose(1, 2)


@dataclass
class Stream:
    """One branch's tokens on their way through the layers, and what stays fixed meanwhile."""

    x_BLD: Tensor
    e_BTD: Tensor
    e_BT6D: Tensor
    context_BSD: Tensor
    rope: RopeTable


@dataclass(frozen=True)
class Run:
    """What every layer of one forward pass shares."""

    plan: RowPlan
    cache: DriverCache | None
    attention: Attention
    a2v: CrossGeometry
    v2a: CrossGeometry
    target: slice  # the target latents in the audio sequence
    skip_layers: frozenset[int]


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
        operations=layers,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        super().__init__(config, config.video_channels * math.prod(config.patch_size), operations, **factory)
        self.dtype = dtype
        self.patch_embedding = operations.Conv3d(
            config.video_channels, config.dim, kernel_size=config.patch_size, stride=config.patch_size, **factory
        )
        if config.audio:
            self.audio = AudioBranch(config, operations, **factory)
        if config.interaction != "none":
            self.interactions = nn.ModuleList(
                Interaction(config, index == config.num_layers - 1, operations, **factory)
                for index in range(config.num_layers)
            )
        if config.speech is not None:
            self.speech = SpeechEncoder(config, operations, **factory)

    def forward(
        self,
        video: Tensor,
        audio: Tensor | None,
        sigma_video: Tensor,
        sigma_audio: Tensor | None,
        video_context: Tensor,
        audio_context: Tensor | None = None,
        transcript: Tensor | None = None,
        reference_audio: Tensor | None = None,
        roles: tuple[str, ...] | None = None,
        drivers: tuple[Hashable, ...] | None = None,
        driver_cache: DriverCache | None = None,
        skip_layers: frozenset[int] = frozenset(),
        attention: Attention = torch_attention,
        reference_image: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Predict velocity = noise - clean for both latents.

        Args:
            video: [B, C, T_v, h, w]; audio: [B, C, T_a], or None for a model without an audio branch.
            sigma_video, sigma_audio: noise level per latent, 0..1, [B, T_v] and [B, T_a].
            video_context, audio_context: text features [B, <= text_len, text_dim].
            transcript: int64 [B, max_len], filler-padded (0).
            reference_audio: [B, C, T_r] clean latents; where references are appended, also [B, C, J, T_r], J of them.
            reference_image: [B, C, J, h, w], J clean latent frames, for a model whose references are appended.
            roles: per row, `joint`, `audio_given`, `video_given` or `isolated` (default: all joint).
            drivers: per row, a name of its driver under which `driver_cache` keeps it.
            skip_layers: layers that pass both streams through unchanged (skip-layer guidance).
            attention: self, text and style attention; frame-wise attention is always `ops.registry`'s.

        Returns:
            Velocities in the shapes of `video` and `audio`; zero for a driver stream that came from the cache.
        """
        batch = len(video)
        roles = roles or (JOINT,) * batch
        plan = RowPlan.build(roles, drivers or (None,) * batch, driver_cache)
        streams: list[Stream | None] = [None, None]
        if plan.video_rows:
            streams[0] = self._video_stream(
                *(take_rows(x, plan.video_rows) for x in (video, sigma_video, video_context)),
                None if reference_image is None else take_rows(reference_image, plan.video_rows),
            )
        if audio is None:
            run = Run(plan, None, attention, None, None, slice(0), skip_layers)
        else:
            optional = (None if x is None else take_rows(x, plan.audio_rows) for x in (transcript, reference_audio))
            if plan.audio_rows:
                rows = (take_rows(x, plan.audio_rows) for x in (audio, sigma_audio, audio_context))
                streams[1] = self._audio_stream(*rows, *optional)
            prepended = reference_audio is not None and self.config.references == "prepended"
            num_reference = reference_audio.shape[2] if prepended else 0
            target = slice(num_reference, num_reference + audio.shape[2])
            geometry = self._cross_geometry(video, audio, reference_audio, reference_image)
            run = Run(plan, driver_cache, attention, *geometry, target, skip_layers)
        for index in range(self.config.num_layers):
            if index not in skip_layers:
                self.layer(index, *streams, run)
        if driver_cache is not None:
            driver_cache.finish()
        return self._outputs(*streams, video, audio, run)

    def layer(self, index: int, video: Stream | None, audio: Stream | None, run: Run) -> None:
        """One layer of both branches: each sees the other's state after self-attention."""
        if video is not None:
            block = self.blocks[index]
            video.x_BLD = block.attend(video.x_BLD, video.e_BT6D, video.rope, run.attention)
        if audio is not None:
            block_a = self.audio.blocks[index]
            audio.x_BLD = block_a.attend(audio.x_BLD, audio.e_BT6D, audio.rope, run.attention)
        if self.config.interaction == "framewise":
            into_video, into_audio = self._framewise(index, video, audio, run)
            extra_v, extra_a = {"residual_BLD": into_video}, {"residual_BLD": into_audio}
        elif self.config.interaction == "global":
            extra_v, extra_a = self._global(index, video, audio, run)
        else:
            extra_v, extra_a = {}, {}
        if video is not None:
            video.x_BLD = block.finish(video.x_BLD, video.e_BT6D, video.context_BSD, run.attention, **extra_v)
        if audio is not None:
            audio.x_BLD = block_a.finish(audio.x_BLD, audio.e_BT6D, audio.context_BSD, run.attention, **extra_a)

    def _framewise(
        self, index: int, video: Stream | None, audio: Stream | None, run: Run
    ) -> tuple[Tensor | None, Tensor | None]:
        """The interaction's residuals for both streams, row group by row group."""
        interaction = self.interactions[index]
        into_video, into_audio = [], []
        for group in run.plan.groups:
            sources = self._sources(index, group, video, audio, run)
            if group.video is not None:
                x_v = video.x_BLD[group.video]
                listens = group.video_listens(self.config)
                into_video.append(interaction.a2v(x_v, sources["a2v"], run.a2v) if listens else torch.zeros_like(x_v))
            if group.audio is not None:
                x_a = audio.x_BLD[group.audio]
                if not group.audio_listens(self.config):
                    into_audio.append(torch.zeros_like(x_a))
                    continue
                reference = x_a[:, : run.target.start]
                aligned = "style" in sources
                reference = (
                    interaction.style(reference, sources["style"], run.attention)
                    if aligned
                    else torch.zeros_like(reference)
                )
                target = interaction.v2a(x_a[:, run.target], sources["v2a"], run.v2a)
                speech = torch.zeros_like(x_a[:, run.target.stop :])
                into_audio.append(torch.cat((reference, target, speech), dim=1))
        return _cat(into_video), _cat(into_audio)

    def _sources(
        self, index: int, group: RowGroup, video: Stream | None, audio: Stream | None, run: Run
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Keys and values that this group's streams read from each other, live or from the cache."""
        interaction = self.interactions[index]
        if group.video is None or group.audio is None:
            return run.cache.load(group.cache_key, index)
        sources = {}
        if group.video_listens(self.config):
            sources["a2v"] = interaction.a2v.keys_values(audio.x_BLD[group.audio][:, run.target])
        if group.audio_listens(self.config):
            x_v = video.x_BLD[group.video]
            sources["v2a"] = interaction.v2a.keys_values(x_v)
            # Without a reference there is nothing to align; training still runs it, so that its gradients exist.
            if interaction.style is not None and (run.target.start > 0 or torch.is_grad_enabled()):
                sources["style"] = interaction.style.keys_values(self._style_context(x_v, video.e_BTD.shape[1]))
        if run.cache is not None and group.driven and group.driver is not None:
            run.cache.store(group.cache_key, sources)
        return sources

    def _style_context(self, x_v: Tensor, num_latent_frames: int) -> Tensor:
        if self.config.style_pooling == "none":
            return x_v
        return x_v.unflatten(1, (num_latent_frames, -1)).mean(dim=2)

    def _global(self, index: int, video: Stream, audio: Stream, run: Run) -> tuple[dict, dict]:
        """Ovi's fusion: what each stream's text cross-attention adds, row group by row group."""
        interaction, attention = self.interactions[index], run.attention
        into_video, into_audio = [], []
        for group in run.plan.groups:
            fusion_v = fusion_a = None
            if group.video_listens(self.config):
                keys_values = interaction.a2v.keys_values(audio.x_BLD[group.audio])
                fusion_v = interaction.a2v.fusion(keys_values, run.a2v, attention)
            if group.audio_listens(self.config):
                keys_values = interaction.v2a.keys_values(video.x_BLD[group.video])
                fusion_a = interaction.v2a.fusion(keys_values, run.v2a, attention)
            into_video.append((group.video, fusion_v))
            into_audio.append((group.audio, fusion_a))
        return {"fusion": rowwise_fusion(into_video)}, {"fusion": rowwise_fusion(into_audio)}

    def _video_stream(
        self, video: Tensor, sigma_video: Tensor, context: Tensor, reference_image: Tensor | None
    ) -> Stream:
        num_reference = 0
        if reference_image is not None:
            num_reference = reference_image.shape[2]
            video = torch.cat((video, reference_image.to(video)), dim=2)
            # Clean, but labelled with the target's noise level, as in training (DreamID-Omni).
            sigma_video = torch.cat((sigma_video, sigma_video[:, -1:].expand(-1, num_reference)), dim=1)
        x_BLD = self.patch_embedding(video)
        frames, height, width = x_BLD.shape[2:]
        rope = to_device(video_rope(frames - num_reference, height, width, self.config, num_reference), video.device)
        times = self.embed_time(sigma_video, x_BLD.dtype)
        return Stream(x_BLD.flatten(2).transpose(1, 2).contiguous(), *times, self.embed_text(context), rope)

    def _audio_stream(
        self, audio: Tensor, sigma_audio: Tensor, context: Tensor, transcript: Tensor | None, reference: Tensor | None
    ) -> Stream:
        latents, sigmas = audio, [sigma_audio]
        num_reference = 0
        if reference is not None and self.config.references == "appended":
            latents = torch.cat((audio, reference.to(audio).flatten(2)), dim=2)
            sigmas.append(sigma_audio[:, -1:].expand(-1, latents.shape[2] - audio.shape[2]))
        elif reference is not None:
            num_reference = reference.shape[2]
            latents = torch.cat((reference.to(audio), audio), dim=2)
            sigmas.insert(0, sigma_audio.new_zeros(len(audio), num_reference))
        parts = [self.audio.embed(latents)]
        if self.config.speech is not None:
            if transcript is None:
                transcript = torch.zeros(len(audio), self.config.speech.max_len, dtype=torch.long, device=audio.device)
            parts.append(self.speech(transcript, parts[0].dtype))
            sigmas.append(sigma_audio.new_zeros(transcript.shape))
        x_BLD = torch.cat(parts, dim=1)
        if self.config.references == "appended":
            rope = self._appended_rope(audio, reference)
        else:
            rope = to_device(audio_rope(num_reference, audio.shape[2], transcript, self.config), audio.device)
        times = self.audio.embed_time(torch.cat(sigmas, dim=1), x_BLD.dtype)
        return Stream(x_BLD, *times, self.audio.embed_text(context), rope)

    def _appended_rope(self, audio: Tensor, reference: Tensor | None) -> RopeTable:
        """Positions of the target and of the references after it."""
        if reference is None:
            count, length = 0, 0
        else:
            count, length = (1 if reference.ndim == 3 else reference.shape[2]), reference.shape[-1]
        return to_device(appended_audio_rope(audio.shape[2], count, length, self.config), audio.device)

    def _cross_geometry(
        self, video: Tensor, audio: Tensor, reference_audio: Tensor | None, reference_image: Tensor | None
    ) -> tuple[CrossGeometry | None, CrossGeometry | None]:
        """Windows and positions of both directions for these latent lengths."""
        config, device = self.config, video.device
        frames, height, width = (n // p for n, p in zip(video.shape[2:], config.patch_size, strict=True))
        num_audio = audio.shape[2]
        if config.interaction == "none":
            return None, None
        if config.rope_alignment == "ovi":
            num_reference = 0 if reference_image is None else reference_image.shape[2]
            table_v = to_device(video_rope(frames, height, width, config, num_reference), device)
            if config.references == "appended":
                table_a = self._appended_rope(audio, reference_audio)
            else:
                table_a = to_device(audio_rope(0, num_audio, None, config), device)
            return CrossGeometry((), table_v, table_a), CrossGeometry((), table_a, table_v)
        tokens = height * width
        tables = cross_rope(frames, tokens, num_audio, config)
        a2v_groups = tuple(
            (i * tokens, (i + 1) * tokens, start, end)
            for i, (start, end) in enumerate(a2v_windows(frames, num_audio, config))
        )
        v2a_groups = tuple(
            (first, last, start * tokens, end * tokens)
            for first, last, start, end in group_windows(v2a_windows(frames, num_audio, config))
        )
        return (
            CrossGeometry(a2v_groups, *(to_device(table, device) for table in tables["a2v"])),
            CrossGeometry(v2a_groups, *(to_device(table, device) for table in tables["v2a"])),
        )

    def _outputs(
        self, video_stream: Stream | None, audio_stream: Stream | None, video: Tensor, audio: Tensor | None, run: Run
    ) -> tuple[Tensor, Tensor | None]:
        """Heads, unpatchify (patch axes first, channel last in the head's output), rows in the caller's order."""
        batch = len(video)
        velocity_video = torch.zeros_like(video)
        if video_stream is not None:
            grid = tuple(n // p for n, p in zip(video.shape[2:], self.config.patch_size, strict=True))
            out = self.head(video_stream.x_BLD[:, : math.prod(grid)], video_stream.e_BTD[:, : grid[0]])
            out = out.unflatten(1, grid).unflatten(-1, (*self.config.patch_size, -1))
            out = out.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(len(out), *video.shape[1:])
            velocity_video = put_rows(out, run.plan.video_rows, batch)
        if audio is None:
            return velocity_video, None
        velocity_audio = torch.zeros_like(audio)
        if audio_stream is not None:
            target, e_target = audio_stream.x_BLD[:, run.target], audio_stream.e_BTD[:, run.target]
            velocity_audio = put_rows(self.audio.head(target, e_target).transpose(1, 2), run.plan.audio_rows, batch)
        return velocity_video, velocity_audio


def _cat(parts: list[Tensor]) -> Tensor | None:
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else torch.cat(parts)
