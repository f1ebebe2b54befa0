"""What a method needs to know about the other processes that train beside it; nothing when alone.

Every function here is the identity in a single process, so that a loss reads as in its paper. With
several processes it works on all their images together, and gradients pass.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def mean_over_processes(x: Tensor) -> Tensor:
    """The mean of every process's `x`, the same everywhere; gradients reach every `x`."""
    return x if processes() == 1 else _Sum.apply(x) / processes()


@torch.no_grad()
def gather(x: Tensor) -> Tensor:
    """Every process's `x` (B, ...) below each other, (processes * B, ...); without gradients."""
    if processes() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(processes())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def from_first(number: float) -> float:
    """The first process's `number`, everywhere."""
    if processes() == 1:
        return number
    shared = torch.tensor(number, dtype=torch.float64)
    if dist.get_backend() == "nccl":
        shared = shared.cuda()
    dist.broadcast(shared, src=0)
    return float(shared)


class _Sum(torch.autograd.Function):
    """All-reduce that carries gradients: each `x` counts in every process's loss.

    The plain `all_reduce` works in place and leaves the other processes' share out of the gradient.
    """

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone()
        dist.all_reduce(total)
        return total
