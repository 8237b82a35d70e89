"""A process's share of a tensor, which FSDP2 keeps as a `DTensor`; tensors that nobody shares are as they are.

What works on each element for itself works on `local` shares.
"""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate


def local(tensor: Tensor) -> Tensor:
    """This process's share, of the same memory; a tensor that is not shared out itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of it. Every process has to take part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sum_shares(sums: Tensor, gradient: Tensor) -> Tensor:
    """Sums over this process's shares, over those of all processes, if `gradient` is shared out."""
    if isinstance(gradient, DTensor):
        dist.all_reduce(sums)
    return sums


def share_like(tensor: Tensor, other: Tensor) -> Tensor:
    """This process's share of a tensor that every process has, if `other` is shared out."""
    if not isinstance(other, DTensor):
        return tensor
    mesh = other.device_mesh
    return DTensor.from_local(tensor, mesh, [Replicate()]).redistribute(mesh, other.placements)
