"""Tiny networks and pictures for the methods' tests: a ResNet-18 that sees 32 pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from scxr.encoders import Encoder, build_encoder
from scxr.seeds import generator, seed_for


@pytest.fixture(autouse=True)
def steady() -> Iterator[None]:
    """One thread (tiny tensors lose time to more) and the same initial weights every time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(0, "test"))
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def encoder() -> Encoder:
    return build_encoder("resnet18", image_size=32, mean=0.5, std=0.25, seed=3)


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    """Standard normal tensors of a shape, one stream a name."""

    def make(*shape: int, name: str = "x", dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=generator(0, "test", name), dtype=dtype)

    return make


@pytest.fixture
def pictures() -> Callable[..., Tensor]:
    """(B, 1, size, size) in [0, 1], one stream a name."""

    def make(batch: int, size: int = 32, name: str = "pictures") -> Tensor:
        return torch.rand(batch, 1, size, size, generator=generator(0, "test", name))

    return make
