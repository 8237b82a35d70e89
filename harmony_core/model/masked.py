"""UniAVGen's interaction, behind the blocks of listed layers: a face mask, windows of sound, frames in between.

Both directions read the states that both blocks leave, as they are, and neither sees what the other adds.

Legend: B batch, T video latents, N tokens of one, L audio latents, W window, H heads, D width (d: one head's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..config import HarmonyConfig, Width
from ..ops.rope import RopeTable, apply_rope, rope_table
from ..ops.tables import cached_tables
from .blocks import Attention, AttentionProjections, Beside
from .driver_cache import Entries
from .embeddings import Head
from .inputs import AudioInput, VideoInput
from .interaction import KeysValues, Meeting, join_parts
from .roles import RowGroup
from .rope import axes_rope, to_device
from .windows import frame_weights, window_indices

CHUNK = 32  # audio latents whose keys and values are held at once


@dataclass(frozen=True)
class MaskedGeometry:
    """Tables of one forward pass. `hears_BT` and `sees_BL`: the latents that are generated; given ones take nothing."""

    windows_TW: Tensor
    latents_L2: Tensor
    weights_L2: Tensor
    rope_video: RopeTable  # rows and columns of a latent's N tokens
    rope_window: RopeTable  # places in a window
    hears_BT: Tensor
    sees_BL: Tensor
    leading: int  # tokens of a reference image before the video

    @classmethod
    def of(cls, video: VideoInput, audio: AudioInput, config: HarmonyConfig) -> MaskedGeometry:
        frames, height, width = config.grid(video.latents.shape)
        device = video.latents.device
        tables = _tables(frames, height, width, audio.latents.shape[2], config)
        windows, latents, weights = (table.to(device) for table in tables[:3])
        rope_video, rope_window = (to_device(table, device) for table in tables[3:])
        leading = 0 if video.reference is None else video.reference.shape[2] * height * width
        return cls(windows, latents, weights, rope_video, rope_window, video.sigma > 0, audio.sigma > 0, leading)


@cached_tables
def _tables(
    frames: int, height: int, width: int, num_audio: int, config: HarmonyConfig
) -> tuple[Tensor, Tensor, Tensor, RopeTable, RopeTable]:
    windows = window_indices(frames, num_audio, config.window_margin)
    latents, weights = frame_weights(frames, num_audio, torch.bfloat16 if config.published_rounding else torch.float64)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    video = axes_rope((torch.zeros_like(rows), rows, columns), config)  # temporal pairs stay as they are
    # On a head's temporal pairs, with the frequencies of a ladder over the whole head.
    pairs = config.rope_dims[0] // 2
    window = rope_table(torch.arange(windows.shape[1]).unsqueeze(0), config.head_dim)
    return windows, latents, weights, video, (window[0][..., :pairs], window[1][..., :pairs])


class WindowedAttention(AttentionProjections):
    """Each video latent's tokens attend to a window of the sound, as much as the face mask says."""

    def __init__(self, width: Width, context: Width, eps: float, operations: Any, **factory: Any) -> None:
        super().__init__(width, context.dim, eps, operations, **factory)
        self.mask_head = Head(width.dim, 1, eps, operations, **factory)

    def face_mask(self, x_BLD: Tensor, e_BTD: Tensor) -> Tensor:
        """How much a token is of a speaking face, 0..1: [B, L, 1]."""
        return self.mask_head(x_BLD, e_BTD).sigmoid()

    def keys_values(self, context_BLD: Tensor) -> KeysValues:
        return self.heads(self.norm_k(self.k(context_BLD))), self.heads(self.v(context_BLD))

    def forward(
        self, x_BLD: Tensor, mask_BL1: Tensor, keys_values: KeysValues, geometry: MaskedGeometry, attention: Attention
    ) -> Tensor:
        frames = len(geometry.windows_TW)
        k_BTWHd, v_BTWHd = (x[:, geometry.windows_TW] for x in keys_values)
        q = self.heads(self.norm_q(self.q(x_BLD))).unflatten(1, (frames, -1)).flatten(0, 1)
        q = apply_rope(q, geometry.rope_video).flatten(2)
        k = apply_rope(k_BTWHd.flatten(0, 1), geometry.rope_window).flatten(2)
        out = attention(q, k, v_BTWHd.flatten(0, 1).flatten(2), self.num_heads)
        return self.o(out.reshape(x_BLD.shape) * mask_BL1)


class BetweenFramesAttention(AttentionProjections):
    """Each audio latent attends to one picture, between two frames.

    Projections are linear, so keys and values are those of the latents, interpolated: T N rows are projected, where
    `forward_naive`, the published formula, projects L N.
    """

    def __init__(self, width: Width, context: Width, eps: float, operations: Any, **factory: Any) -> None:
        super().__init__(width, context.dim, eps, operations, **factory)

    def keys_values(self, context_BLD: Tensor, frames: int) -> KeysValues:
        """Of the latents, not yet normed: [B, T, N, D] each, behind them in a row T of zeros' (the bias)."""
        blank = torch.zeros_like(context_BLD[:, : context_BLD.shape[1] // frames])
        tokens = torch.cat((context_BLD, blank), dim=1).unflatten(1, (frames + 1, -1))
        return self.k(tokens), self.v(tokens)

    def forward(self, x_BLD: Tensor, keys_values: KeysValues, geometry: MaskedGeometry, attention: Attention) -> Tensor:
        q_BLD = self.norm_q(self.q(x_BLD))
        outputs = []
        for start in range(0, x_BLD.shape[1], CHUNK):
            here = slice(start, start + CHUNK)
            k, v = (interpolate(x, geometry.latents_L2[here], geometry.weights_L2[here]) for x in keys_values)
            outputs.append(self._attend(q_BLD[:, here], k, v, geometry.rope_video, attention))
        return self.o(torch.cat(outputs, dim=1))

    def forward_naive(
        self, x_BLD: Tensor, context_BLD: Tensor, geometry: MaskedGeometry, attention: Attention
    ) -> Tensor:
        """The published formula: pictures first, projections after."""
        context = context_BLD.unflatten(1, (int(geometry.hears_BT.shape[1]), -1))
        weights = geometry.weights_L2[..., None, None].to(context)
        pictures = (context[:, geometry.latents_L2] * weights).sum(2)
        q_BLD = self.norm_q(self.q(x_BLD))
        return self.o(self._attend(q_BLD, self.k(pictures), self.v(pictures), geometry.rope_video, attention))

    def _attend(self, q_BLD: Tensor, k_BLND: Tensor, v_BLND: Tensor, rope: RopeTable, attention: Attention) -> Tensor:
        k = apply_rope(self.heads(self.norm_k(k_BLND)).flatten(0, 1), rope).flatten(2)
        out = attention(q_BLD.flatten(0, 1).unsqueeze(1), k, v_BLND.flatten(0, 1), self.num_heads)
        return out.reshape(q_BLD.shape)


def interpolate(x_BTND: Tensor, latents_L2: Tensor, weights_L2: Tensor) -> Tensor:
    """Projections between two latents [B, L, N, D]. Weights may sum to 2; the bias, last in T, still counts once."""
    first, second = latents_L2.unbind(1)
    a, b = (w[:, None, None].to(x_BTND) for w in weights_L2.unbind(1))
    spare = (1 - weights_L2.sum(1))[:, None, None].to(x_BTND)
    return a * x_BTND[:, first] + b * x_BTND[:, second] + spare * x_BTND[:, -1:]


class MaskedInteraction(nn.Module):
    """Both directions of one layer; see the head of this file. The n-th of a model is that of its n-th listed layer."""

    after_block = True
    geometry = MaskedGeometry.of

    def __init__(self, config: HarmonyConfig, index: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.config, self.index = config, index
        video, audio, eps = config.video_width, config.audio_width, config.eps
        self.a2v = WindowedAttention(video, audio, eps, operations, **factory)
        self.v2a = BetweenFramesAttention(audio, video, eps, operations, **factory)

    def forward(self, x_v: Tensor | None, x_a: Tensor | None, meeting: Meeting) -> tuple[Beside, Beside]:
        """The residuals of both streams; a stream is None where all its rows come from the cache."""
        into_video, into_audio = [], []
        for group in meeting.groups:
            video, audio = self._meet(group, x_v, x_a, meeting)
            into_video += [] if video is None else [video]
            into_audio += [] if audio is None else [audio]
        return Beside(residual_BLD=join_parts(into_video)), Beside(residual_BLD=join_parts(into_audio))

    def _meet(
        self, group: RowGroup, x_v: Tensor | None, x_a: Tensor | None, meeting: Meeting
    ) -> tuple[Tensor | None, Tensor | None]:
        geometry, isolation = meeting.geometry, self.config.driver_isolation
        own_v = None if x_v is None or group.video is None else x_v[group.video]
        own_a = None if x_a is None or group.audio is None else x_a[group.audio]
        mask_BL1 = target_v = None
        if own_v is not None:
            target_v = own_v[:, geometry.leading :]
            skipped = geometry.leading // (target_v.shape[1] // meeting.num_latent_frames)
            mask_BL1 = self.a2v.face_mask(target_v, meeting.e_video_BTD[group.video, skipped:])
        sources = self._sources(group, target_v, mask_BL1, own_a, meeting)
        into_video = into_audio = None
        if own_v is not None:
            into_video = torch.zeros_like(own_v)
            if group.video_listens(isolation):
                y = self.a2v(target_v, mask_BL1, sources["a2v"], geometry, meeting.attention)
                hears = geometry.hears_BT[list(group.rows)].repeat_interleave(y.shape[1] // len(geometry.windows_TW), 1)
                into_video = torch.cat((into_video[:, : geometry.leading], y * hears.unsqueeze(-1)), dim=1)
        if own_a is not None:
            into_audio = torch.zeros_like(own_a)
            if group.audio_listens(isolation):
                y = self.v2a(own_a[:, meeting.target], sources["v2a"], geometry, meeting.attention)
                sees = geometry.sees_BL[list(group.rows)].unsqueeze(-1)
                into_audio = torch.cat((into_audio[:, : meeting.target.start], y * sees), dim=1)
        return into_video, into_audio

    def _sources(
        self, group: RowGroup, target_v: Tensor | None, mask_BL1: Tensor | None, x_a: Tensor | None, meeting: Meeting
    ) -> Entries:
        """Keys and values that a group's streams read from each other, live or from the cache."""
        if target_v is None or mask_BL1 is None or x_a is None:
            return meeting.kept(group, self.index)
        sources, isolation = {}, self.config.driver_isolation
        if group.video_listens(isolation):
            sources["a2v"] = self.a2v.keys_values(x_a[:, meeting.target])
        if group.audio_listens(isolation):
            sources["v2a"] = self.v2a.keys_values(target_v * mask_BL1, meeting.num_latent_frames)
        meeting.keep(group, sources)
        return sources
