"""The encoders of a comparison by name, and what each clearly wrong request is told."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from published_networks import drawn, save
from torch import nn

from scxr.data import RadiographStore, StoreWriter
from scxr.data.findings import is_validation
from scxr.data.phantom import write_store
from scxr.encoders import Encoder, build_encoder
from scxr.errors import InputError
from scxr.evaluate.experiment import draw_experiment
from scxr.evaluate.features import extract, pictures
from scxr.evaluate.finetune import finetune
from scxr.evaluate.heads import Classifier, LinearHead
from scxr.evaluate.inits import calibrated, load_inits
from scxr.evaluate.probe import evaluate_probe, probe_scores
from scxr.evaluate.recipes import settings_for
from scxr.explain.gradcam import class_activation_maps
from scxr.public import PublicEncoder


@pytest.fixture
def somebody_elses() -> PublicEncoder:
    """A published encoder without its libraries: three channels, 24 px, two features."""
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return PublicEncoder(
        "somebody's",
        network,
        image_size=24,
        feature_dim=2,
        mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.2, 0.2],
        interpolation="bicubic",
        config={},
    )


# --- the random baselines ----------------------------------------------------------------------


@torch.no_grad()
def test_calibrated_statistics_are_those_of_the_training_patients(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", 40, size=32)
    encoder = build_encoder("resnet18", image_size=32, mean=store.mean, std=store.std)
    twin = calibrated(encoder, store)
    rows = np.flatnonzero(~is_validation(store.table["patient"]))
    assert 20 < len(rows) < 40
    out = encoder.trunk.conv1(encoder.normalise(pictures(encoder, store, rows)))
    norm = twin.trunk.bn1
    torch.testing.assert_close(norm.running_mean, out.mean(dim=(0, 2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm.running_var, out.var(dim=(0, 2, 3)), atol=1e-5, rtol=1e-3)
    for key, value in encoder.state_dict().items():
        moved = not torch.equal(value, twin.state_dict()[key])
        assert moved == any(part in key for part in ("running", "batches_tracked")), key
    assert not twin.training
    assert norm.momentum == encoder.trunk.bn1.momentum


def test_both_random_baselines_have_the_same_weights(target: RadiographStore) -> None:
    found = load_inits([], ["random-calibrated", "pixels", "random"], target, seed=3)
    assert list(found) == ["random-calibrated", "pixels", "random"]
    plain, measured = found["random"], found["random-calibrated"]
    assert isinstance(plain, Encoder)
    assert isinstance(measured, Encoder)
    for one, other in zip(plain.parameters(), measured.parameters(), strict=True):
        assert torch.equal(one, other)
        assert not other.requires_grad
    rows = np.arange(20)
    features = [extract(e, target, rows, cache=False) for e in (plain, measured)]
    assert np.abs(features[0] - features[1]).max() > 0.1
    again = load_inits([], ["random-calibrated"], target, seed=3)["random-calibrated"]
    np.testing.assert_array_equal(extract(again, target, rows, cache=False), features[1])


def test_both_random_baselines_are_trained_from_scratch_with_a_rate_of_their_own() -> None:
    pretrained = settings_for("moco")
    for init in ("random", "random-calibrated"):
        chosen = settings_for(init)
        assert (chosen.first, chosen.batch_norm) == ("stem", "trained")
        assert chosen.lr == 10 * pretrained.lr
        assert (chosen.epochs, chosen.augmentation) == (pretrained.epochs, pretrained.augmentation)
    assert settings_for("imagenet") == pretrained
    assert settings_for("random", setting="series") == settings_for("moco", setting="series")


def test_a_full_size_random_encoder(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", 3, size=224)
    encoder = load_inits([], ["random"], store)["random"]
    assert (encoder.image_size, encoder.feature_dim) == (224, 512)
    assert extract(encoder, store, np.arange(3), cache=False).shape == (3, 512)


# --- names -------------------------------------------------------------------------------------


def test_imagenet_from_a_file_by_either_way(target: RadiographStore, tmp_path: Path) -> None:
    state = drawn(torchvision.models.resnet18).state_dict()
    file = save(state, tmp_path / "resnet18.pth")
    named = load_inits([], [f"imagenet={file}"], target)
    given = load_inits([], ["imagenet"], target, imagenet_weights=file)
    assert list(named) == list(given) == ["imagenet"]
    with pytest.raises(InputError, match="Two inits are called imagenet"):
        load_inits([], [f"imagenet={file}", "imagenet"], target, imagenet_weights=file)
    states = [found["imagenet"].state_dict().values() for found in (named, given)]
    for one, other in zip(*states, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("inits", "message"),
    [
        (["randon"], "Unknown init 'randon': choose from random, random-calibrated, imagenet"),
        (["random=file.pth"], "Unknown init 'random=file"),
        (["imagenet="], "no path behind the = of 'imagenet='"),
        (["xrv=a.pth"], "no weights file at a.pth"),
        (["pixels", "rad-dino=nowhere"], "There is no folder nowhere"),
        ([], "nothing to evaluate"),
    ],
)
def test_unknown_inits_are_refused(inits: list[str], message: str, target: RadiographStore) -> None:
    with pytest.raises(InputError, match=message):
        load_inits([], inits, target)


def test_a_store_of_one_grey_gives_finite_features(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "grey", 32, 32, source={"kind": "test"})
    rows = [{"image": str(i), "patient": str(i)} for i in range(4)]
    writer.add(np.full((4, 32, 32), 77, dtype=np.uint8), rows)
    store = writer.finish()
    encoder = load_inits([], ["random"], store)["random"]
    assert np.isfinite(extract(encoder, store, np.arange(4), cache=False)).all()


def test_without_batch_norm_there_is_nothing_to_calibrate(target: RadiographStore) -> None:
    encoder = build_encoder("resnet18", image_size=32, mean=0.5, std=0.2)
    encoder.trunk = nn.Sequential(nn.Conv2d(1, 2, 3))
    with pytest.raises(InputError, match="no batch norm to calibrate"):
        calibrated(encoder, target)


# --- what cannot be done with an encoder, or with what it says ---------------------------------


def test_encoders_without_stages_are_probed_and_nothing_else(
    somebody_elses: PublicEncoder, target: RadiographStore, findings: list[str]
) -> None:
    options = {"cache": False, "progress": False}
    table = evaluate_probe({"theirs": somebody_elses}, target, findings[:1], (2,), 2, **options)
    assert table.loc[0, "trials"] == 2
    images = pictures(somebody_elses, target, np.arange(4))
    with pytest.raises(InputError, match="somebody's has no stages to fine-tune"):
        finetune(somebody_elses, images, np.array([1, 1, 0, 0]))
    with pytest.raises(InputError, match="somebody's has no stages to look into"):
        class_activation_maps(somebody_elses, np.ones(2), images)


def test_a_collapsed_encoder_is_said_to_be(
    encoder: Encoder, target: RadiographStore, findings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with torch.no_grad():
        encoder.trunk.conv1.weight.zero_()
    with caplog.at_level(logging.WARNING):
        table = evaluate_probe({"dead": encoder}, target, findings[:1], (5,), 2, progress=False)
    assert table.loc[0, "auc_mean"] == 0.5
    (said,) = {r.getMessage() for r in caplog.records if "collapsed" in r.getMessage()}
    assert "The features of resnet18 are the same for all" in said
    caplog.clear()
    with torch.no_grad():
        encoder.trunk.conv1.weight.normal_(generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.WARNING):
        extract(encoder, target, np.arange(9))
    assert not caplog.records


def test_features_that_are_nan_are_refused(
    somebody_elses: PublicEncoder, target: RadiographStore, findings: list[str]
) -> None:
    with torch.no_grad():
        somebody_elses.network[0].bias.fill_(float("nan"))
    with pytest.raises(InputError, match="images are NaN or infinite: the encoder diverged"):
        evaluate_probe({"theirs": somebody_elses}, target, findings[:1], (2,), 1, progress=False)


def test_a_head_for_another_width_is_refused(encoder: Encoder, target: RadiographStore) -> None:
    head = LinearHead(np.ones(64), 0.0)
    with pytest.raises(InputError, match="fitted on 64 features, but got an array of shape"):
        head.score(extract(encoder, target, np.arange(3)))
    with pytest.raises(InputError, match="64 features does not fit an encoder with 512"):
        Classifier(encoder, head)


def test_a_finding_that_the_store_lacks_is_named(
    encoder: Encoder, target: RadiographStore, findings: list[str]
) -> None:
    with pytest.raises(InputError, match="hiatus hernia"):
        evaluate_probe({"net": encoder}, target, [findings[0], "hiatus hernia"], (1,), 1)


def test_fewer_positives_than_shots_is_a_label_not_a_crash(
    somebody_elses: PublicEncoder,
    target: RadiographStore,
    findings: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        episodes = draw_experiment(target, findings[:1], (1, 300), 1)
    available = episodes[0].positives
    assert f"has only {available} training positives: 300 shots become {available}" in caplog.text
    scores = probe_scores({"theirs": somebody_elses}, target, episodes, cache=False, progress=False)
    assert set(scores["positives"]) == {available}
