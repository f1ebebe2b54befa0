"""The exported file is torchvision's network: same features, loaded in three lines."""

from __future__ import annotations

import json

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from scxr.cli import main
from scxr.encoders import build_encoder
from scxr.errors import InputError
from scxr.export import export, torchvision_state
from scxr.runs import Run, read_tensors, write_encoder, write_json
from scxr.seeds import generator


@pytest.fixture
def run(tmp_path) -> Run:
    """A finished run of an encoder whose batch-norm statistics are not the initial ones."""
    encoder = build_encoder("resnet18", image_size=64, mean=0.4, std=0.2, seed=5).train()
    with torch.no_grad():
        encoder(torch.rand(8, 1, 64, 64, generator=generator(0, "export")))
    write_json(tmp_path / "run/config.json", {"format": 1, "method": "moco"})
    write_encoder(tmp_path / "run/encoder.safetensors", encoder)
    return Run.open(tmp_path / "run")


def test_torchvision_computes_the_same_features(run, tmp_path):
    about = export(run, tmp_path / "out.safetensors")
    network = torchvision.models.resnet18()
    missing = network.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=False)
    assert missing.unexpected_keys == []
    assert missing.missing_keys == ["fc.weight", "fc.bias"]
    network.fc = torch.nn.Identity()
    pictures = torch.rand(3, 1, 64, 64, generator=generator(1, "export"))
    normalised = (pictures - float(about["mean"])) / float(about["std"])
    with torch.no_grad():
        theirs = network.eval()(normalised.expand(-1, 3, -1, -1))
        ours = run.encoder()(pictures)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-4)


def test_the_file_says_what_its_pictures_are(run, tmp_path):
    export(run, tmp_path / "out.safetensors")
    _, metadata = read_tensors(tmp_path / "out.safetensors")
    assert (metadata["name"], metadata["mean"], metadata["method"]) == ("resnet18", "0.4", "moco")


def test_a_stem_that_torchvision_lacks_is_refused():
    encoder = build_encoder("resnet18", image_size=32, mean=0.5, std=0.2, stem="no-maxpool")
    with pytest.raises(InputError, match="'no-maxpool'"):
        torchvision_state(encoder)


def test_other_names_are_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"does not end in \.safetensors"):
        export(run, tmp_path / "out.pth")


def test_from_the_shell(run, tmp_path, capsys):
    main(["export", str(run.path), "--out", str(tmp_path / "out.safetensors"), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["name"] == "resnet18"
    assert (tmp_path / "out.safetensors").is_file()
