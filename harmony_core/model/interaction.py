"""The interaction between the branches, one per layer: the paper's global-local decoupled one (3.3), or Ovi's.

Every kind is one module (`interactions.py` has them by name), entered by its `forward`, that handles the rows of a
batch group by group. `geometry` makes its positions and windows, once a pass. With `after_block` it meets the streams
behind both blocks, and its residuals are added there; else it sees them after self-attention and says what each block
adds beside its text.

Legend: B batch, L query tokens, S context tokens, H heads, D width (d: one head's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..config import HarmonyConfig, Width
from ..ops.registry import framewise_attention
from ..ops.rope import RopeTable, apply_rope
from .blocks import Attention, AttentionProjections, Beside, Fused
from .driver_cache import DriverCache, Entries
from .roles import RowGroup
from .rope import CrossGeometry, cross_geometry

KeysValues = tuple[Tensor, Tensor]  # k_BSHd (normed, not roped), v_BSHd


@dataclass(frozen=True)
class Meeting:
    """What the interactions of all layers share in one forward pass."""

    groups: tuple[RowGroup, ...]
    cache: DriverCache | None
    attention: Attention
    geometry: Any  # what the model's kind of interaction makes of a pass
    target: slice  # the target latents in the audio sequence
    num_latent_frames: int
    e_video_BTD: Tensor  # the video's time embedding; of no rows where none is run

    def kept(self, group: RowGroup, index: int) -> Entries:
        """What the driver of a group gave the index-th interaction, where it is not run."""
        assert self.cache is not None
        return self.cache.load(group.cache_key, index)

    def keep(self, group: RowGroup, sources: Entries) -> None:
        """Keep what a driver gives the next interaction, for later passes."""
        if self.cache is not None and group.driven and group.driver is not None:
            self.cache.store(group.cache_key, sources)


class CrossModalAttention(AttentionProjections):
    """One stream's tokens attend to the other's, with projections of their own."""

    def __init__(self, width: Width, context: Width, eps: float, operations: Any, **factory: Any) -> None:
        super().__init__(width, context.dim, eps, operations, **factory)
        self.norm_x = operations.LayerNorm(width.dim, eps=eps, **factory)
        self.norm_ctx = operations.LayerNorm(context.dim, eps=eps, **factory)

    def keys_values(self, context_BSD: Tensor) -> KeysValues:
        """What a driver contributes: computed once per run when the driver is isolated."""
        context = self.norm_ctx(context_BSD)
        return self.heads(self.norm_k(self.k(context))), self.heads(self.v(context))

    def queries(self, x_BLD: Tensor) -> Tensor:
        return self.heads(self.norm_q(self.q(self.norm_x(x_BLD))))


class FramewiseAttention(CrossModalAttention):
    """RoPE-aligned frame-wise cross-attention: the local, timing half of the interaction."""

    def forward(self, x_BLD: Tensor, keys_values: KeysValues, geometry: CrossGeometry) -> Tensor:
        out = framewise_attention(self.queries(x_BLD), *keys_values, geometry.groups, geometry.rope_q, geometry.rope_k)
        return self.o(out.flatten(2))


class StyleAlignment(CrossModalAttention):
    """Reference-audio latents query the whole video, without positions: the global, style half."""

    def forward(self, x_BLD: Tensor, keys_values: KeysValues, attention: Attention) -> Tensor:
        k, v = (x.flatten(2) for x in keys_values)
        return self.o(attention(self.queries(x_BLD).flatten(2), k, v, self.num_heads))


class FramewiseInteraction(nn.Module):
    """Both directions, and style alignment where its result is ever read (not in the last layer)."""

    after_block = False
    geometry = staticmethod(cross_geometry)

    def __init__(self, config: HarmonyConfig, index: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.config, self.index = config, index
        video, audio, eps = config.video_width, config.audio_width, config.eps
        self.a2v = FramewiseAttention(video, audio, eps, operations, **factory)
        self.v2a = FramewiseAttention(audio, video, eps, operations, **factory)
        self.style: StyleAlignment | None = None
        if config.style_alignment and index < config.num_layers - 1:
            self.style = StyleAlignment(audio, video, eps, operations, **factory)

    def forward(self, x_v: Tensor | None, x_a: Tensor | None, meeting: Meeting) -> tuple[Beside, Beside]:
        """The residuals of both streams; a stream is None where all its rows come from the cache."""
        into_video, into_audio = [], []
        for group in meeting.groups:
            own_v = None if x_v is None or group.video is None else x_v[group.video]
            own_a = None if x_a is None or group.audio is None else x_a[group.audio]
            sources = self._sources(group, own_v, own_a, meeting)
            if own_v is not None:
                into_video.append(self._into_video(own_v, sources, meeting))
            if own_a is not None:
                into_audio.append(self._into_audio(own_a, sources, meeting))
        return Beside(residual_BLD=join_parts(into_video)), Beside(residual_BLD=join_parts(into_audio))

    def _sources(self, group: RowGroup, x_v: Tensor | None, x_a: Tensor | None, meeting: Meeting) -> Entries:
        """Keys and values that a group's streams read from each other, live or (a stream is None) from the cache."""
        if x_v is None or x_a is None:
            return meeting.kept(group, self.index)
        sources, isolation = {}, self.config.driver_isolation
        if group.video_listens(isolation):
            sources["a2v"] = self.a2v.keys_values(x_a[:, meeting.target])
        if group.audio_listens(isolation):
            sources["v2a"] = self.v2a.keys_values(x_v)
            # Without a reference there is nothing to align; training still runs it, so that its gradients exist.
            if self.style is not None and (meeting.target.start > 0 or torch.is_grad_enabled()):
                sources["style"] = self.style.keys_values(self._style_context(x_v, meeting.num_latent_frames))
        meeting.keep(group, sources)
        return sources

    def _style_context(self, x_v: Tensor, num_latent_frames: int) -> Tensor:
        if self.config.style_pooling == "none":
            return x_v
        return x_v.unflatten(1, (num_latent_frames, -1)).mean(dim=2)

    def _into_video(self, x_v: Tensor, sources: Entries, meeting: Meeting) -> Tensor:
        if "a2v" not in sources:
            return torch.zeros_like(x_v)
        return self.a2v(x_v, sources["a2v"], meeting.geometry.a2v)

    def _into_audio(self, x_a: Tensor, sources: Entries, meeting: Meeting) -> Tensor:
        """[reference ; target ; speech]: style into the first, timing into the second, nothing into the third."""
        if "v2a" not in sources:
            return torch.zeros_like(x_a)
        start, stop = meeting.target.start, meeting.target.stop
        reference, target, speech = x_a[:, :start], x_a[:, start:stop], x_a[:, stop:]
        if self.style is not None and "style" in sources:
            into_reference = self.style(reference, sources["style"], meeting.attention)
        else:
            into_reference = torch.zeros_like(reference)
        into_target = self.v2a(target, sources["v2a"], meeting.geometry.v2a)
        return torch.cat((into_reference, into_target, torch.zeros_like(speech)), dim=1)


class GlobalFusion(nn.Module):
    """Ovi's keys and values of the other stream; q, norm_q and o are the text cross-attention's."""

    def __init__(self, width: Width, context: Width, eps: float, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.num_heads = width.num_heads
        self.k = operations.Linear(context.dim, width.dim, **factory)
        self.v = operations.Linear(context.dim, width.dim, **factory)
        self.norm_ctx = operations.LayerNorm(context.dim, eps=eps, **factory)
        self.norm_k = operations.RMSNorm(width.dim, eps=eps, **factory)

    def forward(self, context_BSD: Tensor, rope_k: RopeTable) -> tuple[Tensor, Tensor]:
        """Keys (roped) and values [B, S, D]."""
        context = self.norm_ctx(context_BSD)
        k_BSHd = self.norm_k(self.k(context)).unflatten(-1, (self.num_heads, -1))
        return apply_rope(k_BSHd, rope_k).flatten(2), self.v(context)


class GlobalInteraction(nn.Module):
    """Ovi's fusion: each stream's text cross-attention also reads all of the other stream."""

    after_block = False
    geometry = staticmethod(cross_geometry)

    def __init__(self, config: HarmonyConfig, index: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.config, self.index = config, index
        video, audio, eps = config.video_width, config.audio_width, config.eps
        self.a2v = GlobalFusion(video, audio, eps, operations, **factory)
        self.v2a = GlobalFusion(audio, video, eps, operations, **factory)

    def forward(self, x_v: Tensor, x_a: Tensor, meeting: Meeting) -> tuple[Beside, Beside]:
        """What both streams' text cross-attentions also read. Nothing is cached: Ovi's drivers are not isolated."""
        into_video, into_audio, isolation = [], [], self.config.driver_isolation
        for group in meeting.groups:
            rows_v, rows_a = group.video, group.audio
            assert rows_v is not None
            assert rows_a is not None
            from_audio = self.a2v(x_a[rows_a], meeting.geometry.a2v.rope_k) if group.video_listens(isolation) else None
            from_video = self.v2a(x_v[rows_v], meeting.geometry.v2a.rope_k) if group.audio_listens(isolation) else None
            into_video.append(Fused(rows_v, from_audio))
            into_audio.append(Fused(rows_a, from_video))
        return (
            Beside(fused=tuple(into_video), rope=meeting.geometry.a2v.rope_q),
            Beside(fused=tuple(into_audio), rope=meeting.geometry.v2a.rope_q),
        )


def join_parts(parts: list[Tensor]) -> Tensor | None:
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else torch.cat(parts)
