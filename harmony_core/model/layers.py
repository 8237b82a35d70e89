"""The default `operations` namespace: torch's layers, an RMS norm that is fast on CPU too, and its fusion with RoPE."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import Conv1d, Conv3d, Embedding, LayerNorm, Linear

from ..ops import registry
from ..ops.norm import rms_norm
from ..ops.rope import RopeTable, apply_rope

__all__ = ["Conv1d", "Conv3d", "Embedding", "LayerNorm", "Linear", "RMSNorm", "qk_norm_rope"]


class RMSNorm(nn.RMSNorm):
    eps: float

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def qk_norm_rope(
    norm_q: RMSNorm, norm_k: RMSNorm, q_BLD: Tensor, k_BLD: Tensor, num_heads: int, rope: RopeTable
) -> tuple[Tensor, Tensor]:
    """q and k [B, L, H, d], normed and rotated in one op that reads the norms' weights as they are."""
    return registry.qk_norm_rope(q_BLD, k_BLD, norm_q.weight, norm_k.weight, num_heads, rope, norm_q.eps)


def norm_then_rope(
    norm_q: nn.Module, norm_k: nn.Module, q_BLD: Tensor, k_BLD: Tensor, num_heads: int, rope: RopeTable
) -> tuple[Tensor, Tensor]:
    """The same through the norms' own `forward`, for namespaces whose layers cast or fetch their weights there."""
    q, k = (x.unflatten(-1, (num_heads, -1)) for x in (norm_q(q_BLD), norm_k(k_BLD)))
    return apply_rope(q, rope), apply_rope(k, rope)
