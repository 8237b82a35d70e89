"""The transformer block that both branches share (Wan2.2's).

Legend: B batch, L tokens, S context tokens, T latent positions, H heads, D width (d: one head's).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ..config import Width
from ..ops.rope import RopeTable, apply_rope
from .embeddings import gated_add, modulate
from .layers import norm_then_rope

Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # (q_BLD, k_BSD, v_BSD, num_heads) -> BLD


def torch_attention(q_BLD: Tensor, k_BSD: Tensor, v_BSD: Tensor, num_heads: int) -> Tensor:
    """Unmasked multi-head attention by torch's own kernel."""
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q_BLD, k_BSD, v_BSD))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Fused(NamedTuple):
    """Rows of a batch, and the keys (roped) and values of the other stream that they read; None = they are deaf."""

    rows: slice
    keys_values: tuple[Tensor, Tensor] | None


class Beside(NamedTuple):
    """What an interaction adds beside the text. Tensors, not functions: FSDP2 must see what a module hands on."""

    residual_BLD: Tensor | None = None  # added to the text's term
    fused: tuple[Fused, ...] = ()  # attended to with the text's queries, all rows in order
    rope: RopeTable | None = None  # of those queries


NOTHING = Beside()


class Reading(NamedTuple):
    """Positions of a text and of its readers, and each row's length; without lengths all rows are as long."""

    rope_q: RopeTable
    rope_k: RopeTable
    lengths: tuple[int, ...]


class AttentionProjections(nn.Module):
    """q, k, v, o and the RMS norms of q and k over the full width. The context may have a width of its own."""

    def __init__(self, width: Width, context_dim: int, eps: float, operations: Any, **factory: Any) -> None:
        super().__init__()
        dim = width.dim
        self.num_heads = width.num_heads
        self.q = operations.Linear(dim, dim, **factory)
        self.k = operations.Linear(context_dim, dim, **factory)
        self.v = operations.Linear(context_dim, dim, **factory)
        self.o = operations.Linear(dim, dim, **factory)
        self.norm_q = operations.RMSNorm(dim, eps=eps, **factory)
        self.norm_k = operations.RMSNorm(dim, eps=eps, **factory)

    def heads(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.unflatten(-1, (self.num_heads, -1))


class SelfAttention(AttentionProjections):
    """Attention within a branch. An `operations` namespace may bring its own `qk_norm_rope`."""

    def __init__(self, width: Width, eps: float, operations: Any, **factory: Any) -> None:
        super().__init__(width, width.dim, eps, operations, **factory)
        self.qk_norm_rope = getattr(operations, "qk_norm_rope", norm_then_rope)

    def forward(self, x_BLD: Tensor, rope: RopeTable, attention: Attention) -> Tensor:
        q, k = self.qk_norm_rope(self.norm_q, self.norm_k, self.q(x_BLD), self.k(x_BLD), self.num_heads, rope)
        return self.o(attention(q.flatten(2), k.flatten(2), self.v(x_BLD), self.num_heads))


class CrossAttention(AttentionProjections):
    """Text cross-attention. Its q, norm_q and o also serve global fusion (Ovi): a second attention, summed before o."""

    def forward(
        self,
        x_BLD: Tensor,
        context_BSD: Tensor,
        attention: Attention,
        beside: Beside = NOTHING,
        reading: Reading | None = None,
    ) -> Tensor:
        q, k, v = self.norm_q(self.q(x_BLD)), self.norm_k(self.k(context_BSD)), self.v(context_BSD)
        out = attention(q, k, v, self.num_heads) if reading is None else self._read(q, k, v, attention, reading)
        if beside.fused:
            out = out + self._fuse(self.heads(q), beside, attention)
        return self.o(out)

    def _read(self, q: Tensor, k: Tensor, v: Tensor, attention: Attention, reading: Reading) -> Tensor:
        """Rows of one length at a time: attention takes no mask."""
        q = apply_rope(self.heads(q), reading.rope_q).flatten(2)
        k = apply_rope(self.heads(k), reading.rope_k).flatten(2)
        if len(set(reading.lengths)) == 1:
            return attention(q, k, v, self.num_heads)
        rows = [
            attention(q[i : i + 1], k[i : i + 1, :length], v[i : i + 1, :length], self.num_heads)
            for i, length in enumerate(reading.lengths)
        ]
        return torch.cat(rows)

    def _fuse(self, q_BLHd: Tensor, beside: Beside, attention: Attention) -> Tensor:
        outputs = []
        for rows, keys_values in beside.fused:
            q = q_BLHd[rows]
            if keys_values is None:
                outputs.append(torch.zeros_like(q).flatten(2))
            else:
                outputs.append(attention(apply_rope(q, beside.rope).flatten(2), *keys_values, self.num_heads))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


class Block(nn.Module):
    """Self-attention | text cross-attention, with the interaction beside it | feed-forward.

    `modulation` plus the projected time embedding gives, in this order, shift, scale and gate of the
    self-attention, then of the feed-forward.
    """

    def __init__(self, width: Width, eps: float, operations: Any, **factory: Any) -> None:
        super().__init__()
        dim, norm = width.dim, {"eps": eps, **factory}
        self.norm1 = operations.LayerNorm(dim, elementwise_affine=False, **norm)
        self.self_attn = SelfAttention(width, eps, operations, **factory)
        self.norm3 = operations.LayerNorm(dim, elementwise_affine=True, **norm)
        self.cross_attn = CrossAttention(width, dim, eps, operations, **factory)
        self.norm2 = operations.LayerNorm(dim, elementwise_affine=False, **norm)
        self.ffn = nn.Sequential(
            operations.Linear(dim, width.ffn_dim, **factory),
            nn.GELU(approximate="tanh"),
            operations.Linear(width.ffn_dim, dim, **factory),
        )
        self.modulation = nn.Parameter(torch.empty(1, 6, dim, **factory))

    def forward(
        self,
        x_BLD: Tensor,
        e_BT6D: Tensor,
        attention: Attention,
        rope: RopeTable | None = None,
        context_BSD: Tensor | None = None,
        beside: Beside = NOTHING,
        reading: Reading | None = None,
    ) -> Tensor:
        """The whole block; with `rope` alone its first half, with `context_BSD` alone its second.

        The two streams meet between the halves. Both halves enter here, because what wraps a block (FSDP2, activation
        checkpointing, torch.compile) wraps its `forward`.
        """
        if rope is not None:
            x_BLD = self._attend(x_BLD, e_BT6D, rope, attention)
        if context_BSD is not None:
            x_BLD = self._finish(x_BLD, e_BT6D, context_BSD, attention, beside, reading)
        return x_BLD

    def _attend(self, x_BLD: Tensor, e_BT6D: Tensor, rope: RopeTable, attention: Attention) -> Tensor:
        """Up to and including self-attention: the state that the other branch sees."""
        shift, scale, gate = (self.modulation.to(x_BLD).unsqueeze(1) + e_BT6D)[:, :, :3].unbind(2)
        return gated_add(x_BLD, self.self_attn(modulate(self.norm1(x_BLD), shift, scale), rope, attention), gate)

    def _finish(
        self,
        x_BLD: Tensor,
        e_BT6D: Tensor,
        context_BSD: Tensor,
        attention: Attention,
        beside: Beside,
        reading: Reading | None,
    ) -> Tensor:
        shift, scale, gate = (self.modulation.to(x_BLD).unsqueeze(1) + e_BT6D)[:, :, 3:].unbind(2)
        text = self.cross_attn(self.norm3(x_BLD), context_BSD, attention, beside, reading)
        x_BLD = x_BLD + text if beside.residual_BLD is None else x_BLD + text + beside.residual_BLD
        return gated_add(x_BLD, self.ffn(modulate(self.norm2(x_BLD), shift, scale)), gate)
