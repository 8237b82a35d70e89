"""Global-local decoupled interaction between the branches, one per layer (paper 3.3).

Legend: B batch, L query tokens, S context tokens, H heads, D width (d: one head's).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import HarmonyConfig
from ..ops.framewise_attention.naive import Groups
from ..ops.registry import framewise_attention
from ..ops.rope import RopeTable, apply_rope
from .blocks import Attention, AttentionProjections, Fusion

KeysValues = tuple[Tensor, Tensor]  # k_BSHd (normed, not roped), v_BSHd


@dataclass(frozen=True)
class CrossGeometry:
    """Windows and positions of one direction."""

    groups: Groups
    rope_q: RopeTable | None
    rope_k: RopeTable | None


class CrossModalAttention(AttentionProjections):
    """One stream's tokens attend to the other's, with projections of their own."""

    def __init__(self, config: HarmonyConfig, operations, **factory) -> None:
        super().__init__(config, operations, **factory)
        self.norm_x = operations.LayerNorm(config.dim, eps=config.eps, **factory)
        self.norm_ctx = operations.LayerNorm(config.dim, eps=config.eps, **factory)

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


class GlobalFusion(nn.Module):
    """Ovi's keys and values of the other stream; q, norm_q and o are the text cross-attention's."""

    def __init__(self, config: HarmonyConfig, operations, **factory) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.k = operations.Linear(config.dim, config.dim, **factory)
        self.v = operations.Linear(config.dim, config.dim, **factory)
        self.norm_ctx = operations.LayerNorm(config.dim, eps=config.eps, **factory)
        self.norm_k = operations.RMSNorm(config.dim, eps=config.eps, **factory)

    def keys_values(self, context_BSD: Tensor) -> KeysValues:
        context = self.norm_ctx(context_BSD)
        k, v = self.norm_k(self.k(context)), self.v(context)
        return k.unflatten(-1, (self.num_heads, -1)), v.unflatten(-1, (self.num_heads, -1))

    def fusion(self, keys_values: KeysValues, geometry: CrossGeometry, attention: Attention) -> Fusion:
        """The term that the text cross-attention adds before its output projection."""
        k_BSHd, v_BSHd = keys_values
        k = apply_rope(k_BSHd, geometry.rope_k).flatten(2)

        def attend(q_BLHd: Tensor) -> Tensor:
            return attention(apply_rope(q_BLHd, geometry.rope_q).flatten(2), k, v_BSHd.flatten(2), self.num_heads)

        return attend


def rowwise_fusion(parts: list[tuple[slice, Fusion | None]]) -> Fusion:
    """One fusion term for a stream whose row groups differ in what they listen to."""

    def attend(q_BLHd: Tensor) -> Tensor:
        outputs = [
            torch.zeros_like(q_BLHd[rows]).flatten(2) if fusion is None else fusion(q_BLHd[rows])
            for rows, fusion in parts
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    return attend


class Interaction(nn.Module):
    """Both directions of one layer, and style alignment where its result is ever read (not in the last layer)."""

    def __init__(self, config: HarmonyConfig, last: bool, operations, **factory) -> None:
        super().__init__()
        kind = FramewiseAttention if config.interaction == "framewise" else GlobalFusion
        self.a2v = kind(config, operations, **factory)
        self.v2a = kind(config, operations, **factory)
        if config.style_alignment and not last:
            self.style = StyleAlignment(config, operations, **factory)
        else:
            self.style = None
