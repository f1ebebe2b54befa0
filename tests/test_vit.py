"""The Vision Transformer: torchvision's blocks, positions by formula, and a ResNet's manners."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models.vision_transformer import VisionTransformer

from scxr.data import RadiographStore, StoreWriter
from scxr.encoders import Encoder, build_encoder, freeze, imagenet_encoder, read_encoder
from scxr.errors import InputError
from scxr.evaluate.features import extract
from scxr.evaluate.finetune import finetune
from scxr.evaluate.recipes import FinetuneSettings
from scxr.explain.gradcam import raw_maps
from scxr.export import torchvision_state
from scxr.methods import METHODS
from scxr.pretrain import pretrain
from scxr.runs import read_tensors, write_encoder
from scxr.seeds import generator
from scxr.vit import patch_size, sine_cosine


def build(name: str = "vit_tiny", **changes) -> Encoder:
    return build_encoder(name, **{"image_size": 32, "mean": 0.4, "std": 0.2, "seed": 1, **changes})


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(3, 1, 32, 32, generator=generator(0, "test", "pictures"))


# --- what it computes ----------------------------------------------------------------------------


def test_positions_by_the_formula():
    found = sine_cosine(8, 2, 3, grid=3)
    for row in range(2):
        y = (row + 0.5) * 3 / 2 - 0.5  # two rows over a field of three
        for x in range(3):
            waves = [
                wave(place / 10_000 ** (i / 2))
                for place in (x, y)
                for wave in (math.sin, math.cos)
                for i in range(2)
            ]
            torch.testing.assert_close(found[:, row, x], torch.tensor(waves))


def test_positions_in_between_are_like_those_of_their_neighbours():
    fine, coarse = sine_cosine(192, 8, 8, grid=8), sine_cosine(192, 4, 4, grid=8)
    neighbours = torch.nn.functional.avg_pool2d(fine, 2)  # what interpolating would give
    assert torch.cosine_similarity(coarse, neighbours, dim=0).min() > 0.99


@pytest.mark.parametrize(("name", "heads"), [("vit_tiny", 3), ("vit_small", 6)])
def test_torchvision_computes_the_same(name, heads, pictures):
    encoder = build(name).eval()
    width = encoder.feature_dim
    theirs = VisionTransformer(32, 8, 12, heads, width, 4 * width).eval()
    theirs.conv_proj = torch.nn.Conv2d(1, width, 8, 8)
    theirs.conv_proj.load_state_dict(encoder.trunk.patches.state_dict())
    blocks = [block for stage in encoder.residual_stages() for block in stage]
    for their, ours in zip([*theirs.encoder.layers, theirs.encoder.ln], blocks, strict=True):
        their.load_state_dict(ours.state_dict())
    places = sine_cosine(width, 4, 4, grid=4).flatten(1).T
    with torch.no_grad():
        tokens = theirs._process_input((pictures - 0.4) / 0.2) + places
        expected = theirs.encoder.ln(theirs.encoder.layers(tokens)).mean(dim=1)
        torch.testing.assert_close(encoder(pictures), expected, atol=1e-5, rtol=1e-4)


def test_four_maps_and_their_mean(pictures):
    encoder = build().eval()
    with torch.no_grad():
        maps = encoder.stages(pictures)
        assert [tuple(m.shape) for m in maps] == [(3, 192, 4, 4)] * 4
        torch.testing.assert_close(encoder(pictures), maps[-1].mean(dim=(2, 3)))


def test_places_matter(pictures):
    encoder = build().eval()
    upside_down = pictures.reshape(3, 1, 4, 8, 32).flip(2).reshape(pictures.shape)
    with torch.no_grad():
        assert not torch.allclose(encoder(pictures), encoder(upside_down), atol=1e-3)


def test_pictures_of_another_size(pictures):
    encoder = build().eval()
    with torch.no_grad():
        assert encoder(pictures[..., :16, :16]).shape == (3, 192)
        wide = torch.cat([pictures, pictures], dim=3)
        assert encoder.stages(wide)[0].shape == (3, 192, 4, 8)


@pytest.mark.parametrize(
    ("stem", "image_size", "side"),
    [("imagenet", 64, 8), ("imagenet", 224, 16), ("patch4", 64, 4), ("patch16", 64, 16)],
)
def test_patches_fit_the_picture(stem, image_size, side):
    assert patch_size(stem, image_size) == side


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem": "no-maxpool"}, "Unknown stem 'no-maxpool' of a Vision Transformer: choose from"),
        ({"image_size": 100}, "100 px cannot be cut into patches of 8: set the size to 96"),
        ({"image_size": 4}, "4 px cannot be cut into patches of 8: set the size to 8"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        build(**changes)


def test_a_crop_that_cannot_be_cut_is_refused(pictures):
    with pytest.raises(InputError, match="12 px cannot be cut"):
        build()(pictures[..., :12, :12])


# --- what a ResNet can do too --------------------------------------------------------------------


def test_the_seed_decides_the_weights():
    first, again, other = build().state_dict(), build().state_dict(), build(seed=2).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["trunk.patches.weight"], other["trunk.patches.weight"])


def test_saved_and_read_back_to_the_bit(tmp_path, pictures):
    encoder = build(stem="patch4")
    write_encoder(tmp_path / "encoder.safetensors", encoder)
    back = read_encoder(tmp_path / "encoder.safetensors")
    assert back.config == encoder.config
    with torch.no_grad():
        assert torch.equal(back(pictures), freeze(encoder)(pictures))


def test_checkpointing_changes_no_gradient(pictures):
    def gradients(checkpointing: bool) -> list[Tensor]:
        encoder = build()
        encoder.checkpointing = checkpointing
        encoder(pictures).pow(2).sum().backward()
        return [p.grad for p in encoder.parameters()]

    plain, recomputed = gradients(False), gradients(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))


def test_fine_tuning_trains_the_parts_asked_for(pictures):
    before = build()
    images, labels = pictures.repeat(2, 1, 1, 1), np.array([0, 1, 0, 0, 1, 0])
    model = finetune(before, images, labels, FinetuneSettings(first="layer3", epochs=1))
    old, new = before.trunk.state_dict(), model.encoder.trunk.state_dict()
    moved = {key.split(".")[0] for key in old if not torch.equal(old[key], new[key])}
    assert moved == {"layer3", "layer4"}


def test_grad_cam_is_the_gradient_weighted_sum_of_a_stage(pictures):
    encoder = build().eval().requires_grad_(False)
    direction = torch.randn(192, generator=generator(0, "test", "head"))
    maps = raw_maps(encoder, direction.numpy(), pictures, "layer4", device="cpu")
    last = encoder.stages(pictures.clone().requires_grad_(True))[-1]
    score = torch.nn.functional.normalize(last.mean(dim=(2, 3)), dim=1) @ direction
    (gradient,) = torch.autograd.grad(score.sum(), last)
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * last).sum(dim=1)
    torch.testing.assert_close(torch.from_numpy(maps), expected.detach(), atol=1e-5, rtol=1e-3)
    earlier = raw_maps(encoder, direction.numpy(), pictures, "layer2", device="cpu")
    assert earlier.shape == (3, 4, 4)
    assert earlier.std() > 0


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RadiographStore:
    path = tmp_path_factory.mktemp("vit") / "store"
    images = np.random.default_rng(5).integers(0, 256, (24, 32, 32)).astype(np.uint8)
    rows = [{"image": f"{i}.png", "patient": str(i)} for i in range(len(images))]
    with StoreWriter(path, 32, 32, {"kind": "test"}) as writer:
        writer.add(images, rows)
    return RadiographStore.open(path)


OWN: dict[str, dict] = {
    "moco": {"queue_size": 16, "projection": 16},
    "barlow": {"projection": 16},
    "vicreg": {"projection": 16},
    "dino": {"prototypes": 16, "hidden": 16, "bottleneck": 8, "local_crops": 2, "local_size": 16},
}


@pytest.mark.parametrize("method", OWN)
def test_every_method_that_compares_views_trains_it(method, store, tmp_path):
    settings = {"backbone": "vit_tiny", "image_size": 32, "batch_size": 8, "steps": 2}
    run = pretrain(
        method,
        store,
        tmp_path / "run",
        settings={**settings, **OWN[method]},
        device="cpu",
        precision="32-true",
    )
    trained, fresh = run.encoder(), build(mean=store.mean, std=store.std, seed=0)
    assert trained.name == "vit_tiny"
    for key in ("trunk.patches.weight", "trunk.layer4.2.mlp.0.weight"):
        assert not torch.equal(trained.state_dict()[key], fresh.state_dict()[key])
    tensors, _ = read_tensors(run.path / "encoder.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    features = extract(trained, store, np.arange(4), stage="layer2", cache=False)
    assert features.shape == (4, 192)


# --- what it cannot ------------------------------------------------------------------------------


def test_spark_needs_convolutions():
    with pytest.raises(InputError, match="SparK masks between convolutions, and vit_tiny has none"):
        METHODS["spark"](build(image_size=64), METHODS["spark"].presets["quick"])


def test_torchvision_has_no_such_network():
    assert not hasattr(torchvision.models, "vit_tiny")
    with pytest.raises(InputError, match="torchvision has no network like it"):
        torchvision_state(build())


def test_there_are_no_imagenet_weights():
    with pytest.raises(InputError, match="There are no ImageNet weights for vit_small"):
        imagenet_encoder("vit_small", image_size=32, mean=0.5, std=0.2)
