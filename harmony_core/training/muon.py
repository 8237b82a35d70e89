"""Muon (Jordan et al. 2024): momentum whose matrix is orthogonalised before each step.

torch.optim.Muon orthogonalises one matrix at a time in bfloat16, which took 10 s a step for 170 small matrices on a
CPU without bfloat16 units; here matrices of one shape go through the iteration together, in float32, and processes
that train one model share them out.

Legend: N matrices of one shape, R rows, S columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from .shares import share_like, whole

QUINTIC = (3.4445, -4.7750, 2.0315)  # x -> a x + b x^3 + c x^5 drives singular values towards 1
ITERATIONS = 5


def orthogonalize(g_NRS: Tensor) -> Tensor:
    """Nearest (semi-)orthogonal matrices, roughly: singular values end within about 0.7 to 1.2."""
    a, b, c = QUINTIC
    tall = g_NRS.shape[-2] > g_NRS.shape[-1]
    x = g_NRS.mT if tall else g_NRS
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def orthogonalize_shared(g_NRS: Tensor) -> Tensor:
    """`orthogonalize`, each process doing its share of the N matrices; all receive all of them."""
    parts = list(g_NRS.tensor_split(dist.get_world_size()))
    parts[dist.get_rank()] = orthogonalize(parts[dist.get_rank()]).contiguous()
    for rank, part in enumerate(parts):
        dist.broadcast(part, rank)
    return torch.cat(parts)


class Muon(torch.optim.Optimizer):
    """For matrices, and convolutions taken as matrices of [out, in * kernel]. Updates are scaled by
    sqrt(max(1, rows / columns)). `shared`: every process steps the same matrices with the same gradients. Of matrices
    that are themselves shared out, those of one shape are gathered for their step."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, shared: bool = False) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self._orthogonalize = orthogonalize_shared if shared and dist.is_initialized() else orthogonalize

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # noqa: ARG002 (torch's signature)
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["momentum"] = torch.zeros_like(param)
                state["momentum"].lerp_(param.grad, 1 - group["momentum"])
                ahead = torch.lerp(param.grad, state["momentum"], group["momentum"]).flatten(1)
                by_shape[ahead.shape].append((param, ahead))
            for (rows, columns), members in by_shape.items():
                params, updates = zip(*members, strict=True)
                directions = self._orthogonalize(torch.stack([whole(update) for update in updates]))
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for param, direction in zip(params, directions, strict=True):
                    param.add_(share_like(direction.view(param.shape), param), alpha=-scale)
