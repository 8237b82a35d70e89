"""The transformer block that both branches share (Wan2.2's).

Legend: B batch, L tokens, S context tokens, T latent positions, H heads, D width (d: one head's).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ..config import HarmonyConfig
from ..ops.rope import RopeTable
from .embeddings import gated_add, modulate
from .layers import norm_then_rope

Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # (q_BLD, k_BSD, v_BSD, num_heads) -> BLD


def torch_attention(q_BLD: Tensor, k_BSD: Tensor, v_BSD: Tensor, num_heads: int) -> Tensor:
    """Unmasked multi-head attention by torch's own kernel."""
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q_BLD, k_BSD, v_BSD))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class AttentionProjections(nn.Module):
    """q, k, v, o and the RMS norms of q and k over the full width."""

    def __init__(self, config: HarmonyConfig, operations, **factory) -> None:
        super().__init__()
        dim = config.dim
        self.num_heads = config.num_heads
        self.q = operations.Linear(dim, dim, **factory)
        self.k = operations.Linear(dim, dim, **factory)
        self.v = operations.Linear(dim, dim, **factory)
        self.o = operations.Linear(dim, dim, **factory)
        self.norm_q = operations.RMSNorm(dim, eps=config.eps, **factory)
        self.norm_k = operations.RMSNorm(dim, eps=config.eps, **factory)

    def heads(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.unflatten(-1, (self.num_heads, -1))


class SelfAttention(AttentionProjections):
    """Attention within a branch. An `operations` namespace may bring its own `qk_norm_rope`."""

    def __init__(self, config: HarmonyConfig, operations, **factory) -> None:
        super().__init__(config, operations, **factory)
        self.qk_norm_rope = getattr(operations, "qk_norm_rope", norm_then_rope)

    def forward(self, x_BLD: Tensor, rope: RopeTable, attention: Attention) -> Tensor:
        q, k = self.qk_norm_rope(self.norm_q, self.norm_k, self.q(x_BLD), self.k(x_BLD), self.num_heads, rope)
        return self.o(attention(q.flatten(2), k.flatten(2), self.v(x_BLD), self.num_heads))


class CrossAttention(AttentionProjections):
    """Text cross-attention; global fusion (Ovi) shares its q, norm_q and o."""

    def forward(self, x_BLD: Tensor, context_BSD: Tensor, attention: Attention, fusion: Fusion | None = None) -> Tensor:
        q = self.norm_q(self.q(x_BLD))
        out = attention(q, self.norm_k(self.k(context_BSD)), self.v(context_BSD), self.num_heads)
        if fusion is not None:
            out = out + fusion(self.heads(q))
        return self.o(out)


Fusion = Callable[[Tensor], Tensor]  # normed, un-roped q_BLHd -> attention output BLD, before o


class Block(nn.Module):
    """Self-attention | text cross-attention, with the interaction beside it | feed-forward.

    `modulation` plus the projected time embedding gives, in this order, shift, scale and gate of the
    self-attention, then of the feed-forward.
    """

    def __init__(self, config: HarmonyConfig, operations, **factory) -> None:
        super().__init__()
        norm = {"eps": config.eps, **factory}
        self.norm1 = operations.LayerNorm(config.dim, elementwise_affine=False, **norm)
        self.self_attn = SelfAttention(config, operations, **factory)
        self.norm3 = operations.LayerNorm(config.dim, elementwise_affine=True, **norm)
        self.cross_attn = CrossAttention(config, operations, **factory)
        self.norm2 = operations.LayerNorm(config.dim, elementwise_affine=False, **norm)
        self.ffn = nn.Sequential(
            operations.Linear(config.dim, config.ffn_dim, **factory),
            nn.GELU(approximate="tanh"),
            operations.Linear(config.ffn_dim, config.dim, **factory),
        )
        self.modulation = nn.Parameter(torch.empty(1, 6, config.dim, **factory))

    def attend(self, x_BLD: Tensor, e_BT6D: Tensor, rope: RopeTable, attention: Attention) -> Tensor:
        """The block up to and including self-attention: the state that the other branch sees."""
        shift, scale, gate = (self.modulation.to(x_BLD).unsqueeze(1) + e_BT6D)[:, :, :3].unbind(2)
        return gated_add(x_BLD, self.self_attn(modulate(self.norm1(x_BLD), shift, scale), rope, attention), gate)

    def finish(
        self,
        x_BLD: Tensor,
        e_BT6D: Tensor,
        context_BSD: Tensor,
        attention: Attention,
        fusion: Fusion | None = None,
        residual_BLD: Tensor | None = None,
    ) -> Tensor:
        """The rest of the block. `residual_BLD` is the interaction's own contribution, added beside the text's."""
        shift, scale, gate = (self.modulation.to(x_BLD).unsqueeze(1) + e_BT6D)[:, :, 3:].unbind(2)
        text = self.cross_attn(self.norm3(x_BLD), context_BSD, attention, fusion)
        x_BLD = x_BLD + text if residual_BLD is None else x_BLD + text + residual_BLD
        return gated_add(x_BLD, self.ffn(modulate(self.norm2(x_BLD), shift, scale)), gate)
