"""Encoders: reproducible, normalising inside, saved and read back to the bit, never by pickle."""

from __future__ import annotations

import pickle

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from scxr.encoders import (
    RESNETS,
    build_encoder,
    imagenet_encoder,
    read_encoder,
    resize,
)
from scxr.errors import InputError
from scxr.runs import write_encoder
from scxr.seeds import generator


def build(name: str = "resnet18", **changes):
    return build_encoder(name, **{"image_size": 32, "mean": 0.4, "std": 0.2, "seed": 1, **changes})


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(3, 1, 64, 64, generator=generator(0, "test", "pictures"))


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_the_seed_decides_the_weights():
    first = build()
    torch.rand(7)  # whatever else was drawn in between
    assert same(first, build())
    assert not same(first, build(seed=2))


def test_building_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    build()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", list(RESNETS))
def test_shapes(name, pictures):
    encoder = build(name).eval()
    d = encoder.feature_dim
    with torch.no_grad():
        maps, features = encoder.stages(pictures), encoder(pictures)
    assert [tuple(m.shape[1:]) for m in maps] == [
        *((d // 8, 16, 16), (d // 4, 8, 8), (d // 2, 4, 4), (d, 2, 2)),
    ]
    assert features.shape == (3, d)
    torch.testing.assert_close(features, maps[-1].mean(dim=(2, 3)))


def test_the_stem_for_small_pictures_keeps_maps_twice_as_large(pictures):
    with torch.no_grad():
        maps = build(stem="no-maxpool").eval().stages(pictures)
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4]


def test_normalisation_is_inside(pictures):
    encoder, plain = build().eval(), build(mean=0.0, std=1.0).eval()
    torch.testing.assert_close(encoder.normalise(pictures), (pictures - 0.4) / 0.2)
    with torch.no_grad():
        torch.testing.assert_close(encoder(pictures), plain((pictures - 0.4) / 0.2))
        already = encoder.stages(encoder.normalise(pictures), normalised=True)
        torch.testing.assert_close(already[-1], encoder.stages(pictures)[-1])


def test_saved_and_read_back_to_the_bit(tmp_path, pictures):
    encoder = build(stem="no-maxpool", mean=1 / 3, std=0.1)
    encoder(pictures)  # moves batch norm's statistics
    write_encoder(tmp_path / "encoder.safetensors", encoder)
    back = read_encoder(tmp_path / "encoder.safetensors")
    assert back.config == encoder.config
    assert same(back, encoder)
    assert not back.training
    assert not any(p.requires_grad for p in back.parameters())
    with torch.no_grad():
        assert torch.equal(back(pictures), encoder.eval()(pictures))


def test_features_do_not_depend_on_the_batch_in_eval_mode(pictures):
    encoder = build().eval()
    with torch.no_grad():
        together = encoder(pictures)
        alone = torch.cat([encoder(p[None]) for p in pictures])
        assert torch.equal(encoder(pictures), together)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


def test_resize_averages_and_keeps_what_fits(pictures):
    assert resize(pictures, 64) is pictures
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    assert resize(stripes, 32)[..., 2:-2, 2:-2].std() < 0.1
    assert resize(pictures, 96).shape == (3, 1, 96, 96)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "resnet19"}, "Unknown backbone 'resnet19': choose from resnet18"),
        ({"stem": "patchify"}, "Unknown stem 'patchify': choose from imagenet"),
    ],
)
def test_unknown_networks_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        build(**changes)


# --- ImageNet weights from a file --------------------------------------------------------------


@pytest.fixture(scope="module")
def three_channels():
    """torchvision's network for coloured pictures, with weights of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = torchvision.models.resnet18(weights=None)
        network(torch.rand(2, 3, 64, 64))  # moves batch norm's statistics
    return network.eval()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_one_channel_sees_what_three_equal_ones_did(tmp_path, three_channels, pictures, suffix):
    file = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(three_channels.state_dict(), file)
    else:
        save_file(three_channels.state_dict(), file)
    encoder = imagenet_encoder("resnet18", image_size=64, mean=0.0, std=1.0, weights=file).eval()
    headless = torch.nn.Sequential(*list(three_channels.children())[:-1])
    with torch.no_grad():
        expected = headless(pictures.expand(3, 3, 64, 64)).flatten(1)
        torch.testing.assert_close(encoder(pictures), expected, atol=1e-4, rtol=1e-4)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self):
        return open, (self.target, "w")


def test_a_weights_file_cannot_run_code(tmp_path):
    sprung = tmp_path / "sprung"
    file = tmp_path / "weights.pth"
    torch.save({"conv1.weight": Trap(str(sprung))}, file)
    with pytest.raises(InputError, match="cannot be read as weights"):
        imagenet_encoder("resnet18", image_size=32, mean=0.0, std=1.0, weights=file)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(str(sprung)))).close()  # the trap itself works
    assert sprung.exists()


def test_weights_that_do_not_fit_are_refused(tmp_path, three_channels):
    def refused(content, message, name="resnet18"):
        file = tmp_path / "weights.pth"
        torch.save(content, file)
        with pytest.raises(InputError, match=message):
            imagenet_encoder(name, image_size=32, mean=0.0, std=1.0, weights=file)

    state = three_channels.state_dict()
    refused(state, "does not hold the weights of torchvision's resnet50", name="resnet50")
    refused({"state_dict": state}, "does not hold the weights")
    refused({k: v for k, v in state.items() if k != "bn1.weight"}, "does not hold the weights")
    refused({**state, "conv1.weight": torch.zeros(64)}, "does not hold the weights")
    refused({}, "does not hold the weights")
    refused(torch.zeros(3), "does not hold the weights")
    refused([1, 2], "does not hold the weights")


def test_files_that_are_no_weights_are_refused(tmp_path, three_channels):
    def refused(path, message):
        with pytest.raises(InputError, match=message):
            imagenet_encoder("resnet18", image_size=32, mean=0.0, std=1.0, weights=path)

    refused(tmp_path / "missing.pth", "There is no weights file")
    for name in ("garbage.pth", "garbage.safetensors"):
        (tmp_path / name).write_bytes(b"not weights at all")
        refused(tmp_path / name, "cannot be read as weights: [^\n]*$")
    torch.save(three_channels, tmp_path / "network.pth")
    refused(tmp_path / "network.pth", r"holds more than tensors.* save a network's state_dict\(\)")


def test_files_that_are_no_encoder_are_refused(tmp_path, three_channels):
    file = tmp_path / "encoder.safetensors"

    def refused():
        with pytest.raises(InputError, match="is not an encoder that scxr saved"):
            read_encoder(file)

    refused()
    file.write_bytes(b"garbage")
    refused()
    save_file(three_channels.state_dict(), file)  # no settings in it
    refused()
    save_file({"a": torch.zeros(1)}, file, metadata={"config": "{"})
    refused()
    save_file({"a": torch.zeros(1)}, file, metadata={"config": '{"name": "resnet18"}'})
    refused()
    encoder = build()
    write_encoder(file, encoder)
    file.write_bytes(file.read_bytes()[:-100])
    refused()


# --- Checkpointing ------------------------------------------------------------------------------


def trained_step(encoder, pictures, checkpointing: bool) -> dict[str, Tensor]:
    """Gradients and buffers after a forward and a backward pass of two views."""
    encoder.checkpointing = checkpointing
    outputs = [encoder(pictures), encoder(pictures.flip(-1))]
    (outputs[0] * outputs[1]).sum().backward()
    gradients = {f"{n}.grad": p.grad for n, p in encoder.named_parameters()}
    return gradients | dict(encoder.named_buffers())


@pytest.mark.parametrize("name", list(RESNETS))
def test_checkpointing_changes_no_gradient_and_moves_statistics_once(name, pictures):
    plain = trained_step(build(name), pictures, checkpointing=False)
    checkpointed = trained_step(build(name), pictures, checkpointing=True)
    assert plain.keys() == checkpointed.keys()
    assert plain["trunk.bn1.num_batches_tracked"] == 2
    assert all(torch.equal(value, checkpointed[key]) for key, value in plain.items())


def test_checkpointing_keeps_less_and_computes_twice(pictures):
    def passes(checkpointing: bool) -> tuple[int, int]:
        encoder, calls, kept = build(), [], {}
        encoder.checkpointing = checkpointing
        encoder.trunk.layer2[0].conv1.register_forward_hook(lambda *_: calls.append(1))

        def pack(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage()._cdata] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features = encoder(pictures)
        features.sum().backward()
        return len(calls), sum(t.untyped_storage().nbytes() for t in kept.values())

    (once, everything), (twice, boundaries) = passes(False), passes(True)
    assert (once, twice) == (1, 2)
    assert boundaries < everything / 3


def test_a_recomputation_that_breaks_off_leaves_the_buffers_in_place(pictures):
    encoder = build()
    encoder.checkpointing = True
    loss = encoder(pictures).sum()
    own = {name: id(buffer) for name, buffer in encoder.named_buffers()}
    hook = encoder.trunk.layer1[1].conv2.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss.backward()
    hook.remove()
    assert {name: id(buffer) for name, buffer in encoder.named_buffers()} == own


def test_without_gradients_nothing_is_checkpointed(pictures):
    encoder = build().eval()
    expected = encoder(pictures)
    encoder.checkpointing = True
    with torch.no_grad():
        assert not encoder.recomputes
        assert torch.equal(encoder(pictures), expected)
    assert "checkpointing" not in encoder.config
