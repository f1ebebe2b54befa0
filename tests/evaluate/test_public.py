"""Encoders that others published give what their own libraries give, and load nothing unsafe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchxrayvision as xrv
import transformers
from PIL import Image
from published_networks import drawn, save, small_rad_dino
from safetensors.torch import load_file
from torch import Tensor

from scxr.data import RadiographStore
from scxr.data.phantom import write_store
from scxr.errors import InputError
from scxr.evaluate.features import extract, fingerprint, pictures
from scxr.fetching import Unavailable
from scxr.public import PublicEncoder, public_encoder

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> RadiographStore:
    """Three phantoms of 518 px."""
    return write_store(tmp_path_factory.mktemp("large") / "store", 3, size=518)


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> RadiographStore:
    """Three phantoms of 224 px."""
    return write_store(tmp_path_factory.mktemp("middle") / "store", 3, size=224)


@pytest.fixture(scope="module")
def rad_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_rad_dino(tmp_path_factory.mktemp("rad-dino"))


@pytest.fixture(scope="module")
def densenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """TorchXRayVision's network, and its whole state dict in a file."""
    network = drawn(lambda: xrv.models.DenseNet(weights=None))
    file = tmp_path_factory.mktemp("xrv") / "densenet.pth"
    return network, save(network.state_dict(), file)


def pillow(store: RadiographStore) -> list[Image.Image]:
    """The store's pictures as a user of those libraries would open them."""
    return [Image.fromarray(image).convert("RGB") for image in np.asarray(store.images[:])]


def features(encoder: PublicEncoder, store: RadiographStore) -> Tensor:
    return torch.from_numpy(extract(encoder, store, np.arange(len(store)), cache=False))


# --- the same numbers as the libraries' own pipelines ------------------------------------------


@torch.no_grad()
def transformers_pipeline(folder: Path, store: RadiographStore) -> Tensor:
    """The model card's: processor, model, the class token that `pooler_output` is."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    return model(**processor(images=pillow(store), return_tensors="pt")).pooler_output


def test_rad_dino_is_the_class_token_of_transformers(
    rad_dino: Path, large: RadiographStore
) -> None:
    encoder = public_encoder(f"rad-dino={rad_dino}")
    assert (encoder.name, encoder.image_size, encoder.feature_dim) == ("rad-dino", 518, 24)
    expected = transformers_pipeline(rad_dino, large)
    torch.testing.assert_close(features(encoder, large), expected, **CLOSE)


def test_rad_dino_is_resized_as_its_processor_resizes(
    rad_dino: Path, middle: RadiographStore
) -> None:
    encoder = public_encoder(f"rad-dino={rad_dino}")
    expected = transformers_pipeline(rad_dino, middle)
    torch.testing.assert_close(features(encoder, middle), expected, **CLOSE)


@torch.no_grad()
def test_xrv_is_features2_of_torchxrayvision(
    densenet: tuple[torch.nn.Module, Path], middle: RadiographStore
) -> None:
    network, file = densenet
    scaled = [xrv.datasets.normalize(image, 255)[None] for image in np.asarray(middle.images[:])]
    expected = network.features2(torch.from_numpy(np.stack(scaled)))
    encoder = public_encoder(f"xrv={file}")
    assert (encoder.name, encoder.image_size, encoder.feature_dim) == ("xrv", 224, 1024)
    torch.testing.assert_close(features(encoder, middle), expected, **CLOSE)


@pytest.mark.parametrize(
    ("name", "headless", "suffix"),
    [
        ("resnet18", False, ".pth"),
        ("resnet10t", True, ".safetensors"),
        ("vit_tiny_patch16_224", False, ".safetensors"),
        ("mobilenetv3_small_050", True, ".pth"),
    ],
)
@torch.no_grad()
def test_timm_networks_are_timms(
    name: str, headless: bool, suffix: str, middle: RadiographStore, tmp_path: Path
) -> None:
    whole = drawn(lambda: timm.create_model(name, num_classes=0 if headless else 1000))
    file = save(whole.state_dict(), tmp_path / f"weights{suffix}")
    whole.reset_classifier(0)
    data = timm.data.resolve_model_data_config(whole)
    # The whole picture; timm's own default cuts a border off.
    transform = timm.data.create_transform(**{**data, "crop_pct": 1.0}, is_training=False)
    shown = torch.stack([transform(picture) for picture in pillow(middle)])
    encoder = public_encoder(f"timm:{name}={file}")
    assert encoder.name == f"timm:{name}"
    assert encoder.image_size == data["input_size"][-1]
    expected = whole(shown)
    assert expected.shape[1] == encoder.feature_dim
    # Where there is something to resize, Pillow and torchvision differ by a grey level.
    tolerance = CLOSE if encoder.image_size == 224 else {"atol": 0.05, "rtol": 0.05}
    torch.testing.assert_close(features(encoder, middle), expected, **tolerance)


def test_another_normalisation_would_show(
    rad_dino: Path, densenet: tuple[torch.nn.Module, Path], middle: RadiographStore
) -> None:
    """The comparisons above can fail: every way to get it wrong moves the features."""
    encoders = [public_encoder(f"xrv={densenet[1]}"), public_encoder(f"rad-dino={rad_dino}")]
    seen = np.array([0])
    for encoder in encoders:
        right = extract(encoder, middle, seen, cache=False)
        mean, std = encoder.mean.clone(), encoder.std.clone()
        for wrong_mean, wrong_std in (
            (0 * mean, 0 * std + 1),  # [0, 1] as it is
            (mean / std, std),  # scaled before it is centred
            (0 * mean, std / 2),  # [0, 4096] instead of [-1024, 1024], and its like
        ):
            encoder.mean.copy_(wrong_mean)
            encoder.std.copy_(wrong_std)
            wrong = extract(encoder, middle, seen, cache=False)
            assert np.abs(wrong - right).max() > 1e-3 * np.abs(right).max()


def test_a_processors_own_constants_are_used(large: RadiographStore, tmp_path: Path) -> None:
    folder = small_rad_dino(tmp_path, image_mean=[0.3, 0.4, 0.5], image_std=[0.2, 0.3, 0.4])
    encoder = public_encoder(f"rad-dino={folder}")
    expected = transformers_pipeline(folder, large)
    torch.testing.assert_close(features(encoder, large), expected, **CLOSE)


def test_public_encoders_are_frozen_and_grey(
    densenet: tuple[torch.nn.Module, Path], middle: RadiographStore
) -> None:
    encoder = public_encoder(f"xrv={densenet[1]}")
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())
    seen = pictures(encoder, middle, np.array([0, 2]))
    assert seen.shape == (2, 1, 224, 224)
    np.testing.assert_allclose(seen[1, 0], middle.images[2] / 255, rtol=1e-6)
    with pytest.raises(InputError, match="xrv has no stages"):
        extract(encoder, middle, np.arange(2), stage="layer4", cache=False)


# --- no two of them share a cache entry --------------------------------------------------------


def test_the_same_weights_with_other_constants_or_size_are_another_entry(
    rad_dino: Path, tmp_path: Path
) -> None:
    def changed(**preprocessor: object) -> str:
        about = json.loads((rad_dino / "preprocessor_config.json").read_text())
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name in ("config.json", "model.safetensors"):
            (folder / name).write_bytes((rad_dino / name).read_bytes())
        (folder / "preprocessor_config.json").write_text(json.dumps({**about, **preprocessor}))
        return fingerprint(public_encoder(f"rad-dino={folder}"))

    prints = [
        changed(),
        changed(image_mean=[0.5, 0.5, 0.5]),
        changed(image_std=[0.25, 0.25, 0.25]),
        changed(crop_size={"height": 504, "width": 504}),
        changed(resample=2),
    ]
    assert len(set(prints)) == len(prints)
    assert changed() == prints[0]  # and where the folder lies does not matter


def test_two_timm_names_with_the_same_weights_are_two_entries(tmp_path: Path) -> None:
    state = drawn(lambda: timm.create_model("resnet18")).state_dict()
    file = save(state, tmp_path / "resnet18.pth")
    names = ("resnet18.tv_in1k", "resnet18.a1_in1k")
    one, two = (public_encoder(f"timm:{name}={file}") for name in names)
    assert one.image_size == two.image_size
    assert fingerprint(one) != fingerprint(two)


# --- files that are not what they should be ----------------------------------------------------


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize("init", ["xrv", "timm:resnet10t"])
def test_a_file_cannot_run_code(init: str, tmp_path: Path) -> None:
    sprung, file = tmp_path / "sprung", tmp_path / "weights.pt"
    torch.save({"features.conv0.weight": Trap(sprung)}, file)
    with pytest.raises(InputError, match="cannot be read as weights"):
        public_encoder(f"{init}={file}")
    assert not sprung.exists()
    torch.load(file, weights_only=False)["features.conv0.weight"].close()  # the trap itself works
    assert sprung.exists()


def test_a_folder_cannot_run_code(rad_dino: Path, tmp_path: Path) -> None:
    folder = small_rad_dino(tmp_path / "rad-dino")
    (folder / "model.safetensors").unlink()
    sprung = tmp_path / "sprung"
    torch.save({"embeddings.cls_token": Trap(sprung)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="does not hold rad-dino"):
        public_encoder(f"rad-dino={folder}")
    config = json.loads((rad_dino / "preprocessor_config.json").read_text())
    config["auto_map"] = {"AutoImageProcessor": "evil.Evil"}
    config["image_processor_type"] = "Evil"
    (folder / "model.safetensors").write_bytes((rad_dino / "model.safetensors").read_bytes())
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(sprung)!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(InputError, match="does not hold rad-dino"):
        public_encoder(f"rad-dino={folder}")
    assert not sprung.exists()


def test_a_pickled_network_is_refused(
    densenet: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    torch.save(densenet[0], tmp_path / "network.pt")
    with pytest.raises(InputError, match="cannot be read as weights"):
        public_encoder(f"xrv={tmp_path / 'network.pt'}")


def test_files_that_do_not_fit_are_refused(
    densenet: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    state = densenet[0].state_dict()
    incomplete = {k: v for k, v in state.items() if "denseblock3" not in k}
    with pytest.raises(InputError, match="TorchXRayVision's DenseNet-121"):
        public_encoder(f"xrv={save(incomplete, tmp_path / 'a.pth')}")
    resnet = timm.create_model("resnet10t").state_dict()
    partial = {k: v for k, v in resnet.items() if k != "layer4.0.conv1.weight"}
    for name, weights in (("resnet10t", partial), ("resnet18", resnet), ("resnet10t", state)):
        file = save(weights, tmp_path / "b.pth")
        with pytest.raises(InputError, match=f"does not hold the weights of timm's {name}"):
            public_encoder(f"timm:{name}={file}")


def test_a_folder_with_weights_missing_is_refused(tmp_path: Path) -> None:
    folder = small_rad_dino(tmp_path)
    state = load_file(folder / "model.safetensors")
    del state["layernorm.weight"]
    save(state, folder / "model.safetensors")
    with pytest.raises(InputError, match="1 weights are missing"):
        public_encoder(f"rad-dino={folder}")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"it needs config\.json, preprocessor_config\.json"):
        public_encoder(f"rad-dino={folder}")


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("timm:resnet19", "no weights for a network called 'resnet19'"),
        ("timm:resnet18.mine", "no weights for a network called 'resnet18.mine'"),
        ("rad-dino=nowhere", "There is no folder nowhere"),
        ("xrv=nowhere.pth", "There is no weights file at nowhere.pth"),
        ("timm:resnet18=", "no path behind the ="),
        ("rad-jepa", "Unknown encoder 'rad-jepa': choose from rad-dino, xrv, timm:NAME"),
    ],
)
def test_what_is_not_there_is_said(init: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        public_encoder(init)
    assert not isinstance(caught.value, Unavailable)
