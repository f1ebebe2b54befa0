"""Checkpointing is a way to train, not another training: same losses, gradients, statistics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scxr.encoders import build_encoder
from scxr.methods import METHODS
from scxr.methods.settings import with_changes
from scxr.seeds import generator, seed_for

FORMS = [
    *((name, {}) for name in METHODS),
    ("dino", {"local_crops": 1, "local_size": 32}),
    ("spark", {"form": "sparse", "patch_size": 32}),
]


def step(method: str, changes: dict, pictures: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Loss terms, gradients and buffers after one forward and backward pass."""
    settings = with_changes(
        METHODS[method].presets["quick"], {"batch_size": len(pictures), "image_size": 64, **changes}
    )
    torch.manual_seed(seed_for(0, "test", "checkpointing"))
    network = METHODS[method](
        build_encoder("resnet18", image_size=64, mean=0.5, std=0.25), settings
    ).train()
    views = network.views(pictures, generator(0, "views"))
    with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
        terms = network(views)
    torch.stack(list(terms.values())).sum().backward()
    gradients = {f"{n}.grad": p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert gradients
    return terms | gradients | dict(network.named_buffers())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("method", "changes"), FORMS, ids=str)
def test_losses_gradients_and_statistics_stay_the_same_to_the_bit(method, changes, dtype, pictures):
    images = pictures(4, 64)
    plain = step(method, changes, images, dtype)
    checkpointed = step(method, {**changes, "checkpointing": True}, images, dtype)
    assert plain.keys() == checkpointed.keys()
    different = [k for k, v in plain.items() if not torch.equal(v, checkpointed[k])]
    assert different == []


@pytest.mark.parametrize(("method", "changes"), FORMS, ids=str)
def test_every_trained_encoder_is_checkpointed(method, changes, pictures):
    """Fewer bytes are kept: the setting reaches DINO's student and the sparse form as well."""

    def kept(checkpointing: bool) -> int:
        saved: dict[int, Tensor] = {}

        def pack(tensor: Tensor) -> Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            step(
                method, {**changes, "checkpointing": checkpointing}, pictures(8, 64), torch.float32
            )
        return sum(t.untyped_storage().nbytes() for t in saved.values() if t.ndim == 4)

    assert kept(True) < 0.75 * kept(False)


def test_the_presets_do_without():
    presets = [p for m in METHODS.values() for p in m.presets.values()]
    assert not any(preset.checkpointing for preset in presets)
