"""Fine-tuning moves what it says, from where it says, and repeats itself."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from scxr.data import RadiographStore
from scxr.encoders import Encoder
from scxr.errors import InputError
from scxr.evaluate.experiment import draw_experiment
from scxr.evaluate.features import PixelEncoder, extract, pictures
from scxr.evaluate.finetune import _view, evaluate_finetune, finetune, finetune_scores
from scxr.evaluate.heads import Classifier, l2_normalise, prototype_head
from scxr.evaluate.probe import fit_head
from scxr.evaluate.recipes import SETTINGS, FinetuneSettings, settings_for
from scxr.evaluate.results import SCORE_COLUMNS
from scxr.evaluate.statistics import auc
from scxr.seeds import generator

SHORT = FinetuneSettings(epochs=2, batch_size=4, views=2)


@pytest.fixture
def labelled(target: RadiographStore, encoder: Encoder) -> tuple[Tensor, np.ndarray]:
    """Six pictures and labels."""
    return pictures(encoder, target, np.arange(6)), np.array([1, 1, 1, 0, 0, 0])


def changed(before: Encoder, after: Encoder) -> set[str]:
    """Which parts of two networks differ: "conv1", "layer2", ..."""
    old, new = before.trunk.state_dict(), after.trunk.state_dict()
    return {key.split(".")[0] for key in old if not torch.equal(old[key], new[key])}


def test_prototypes_score_plus_and_minus_one() -> None:
    features = np.random.default_rng(0).normal(size=(10, 7)) + 1
    labels = np.repeat([1, 0], 5)
    head = prototype_head(features, labels)
    unit = l2_normalise(features)
    means = np.stack([unit[labels == kind].mean(axis=0) for kind in (1, 0)])
    np.testing.assert_allclose(means @ head.weights + head.bias, [1, -1])


def test_a_classifier_is_the_probe_as_a_module(
    target: RadiographStore, encoder: Encoder, labelled: tuple[Tensor, np.ndarray]
) -> None:
    images, labels = labelled
    features = extract(encoder, target, np.arange(6))
    head = fit_head(features, labels)
    scores = Classifier(encoder, head).score(images, batch_size=4)
    np.testing.assert_allclose(scores, head.score(features), rtol=1e-4, atol=1e-4)
    narrow = replace(head, weights=head.weights[:100])
    with pytest.raises(InputError, match="100 features does not fit"):
        Classifier(encoder, narrow)


@pytest.mark.parametrize(
    ("first", "moved"),
    [
        ("layer4", {"layer4"}),
        ("layer2", {"layer2", "layer3", "layer4"}),
        ("stem", {"conv1", "layer1", "layer2", "layer3", "layer4"}),
    ],
)
def test_only_the_trained_parts_move(
    encoder: Encoder, labelled: tuple[Tensor, np.ndarray], first: str, moved: set[str]
) -> None:
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    model = finetune(encoder, *labelled, replace(SHORT, first=first))
    assert changed(encoder, model.encoder) == moved
    for key, value in encoder.state_dict().items():  # the next trial starts from the same weights
        assert torch.equal(value, before[key])
    old, new = encoder.trunk.layer4[1].bn2, model.encoder.trunk.layer4[1].bn2
    assert torch.equal(old.running_mean, new.running_mean)
    assert torch.equal(old.weight, new.weight)


def test_batch_norm_moves_when_trained_from_scratch(
    encoder: Encoder, labelled: tuple[Tensor, np.ndarray]
) -> None:
    model = finetune(encoder, *labelled, replace(SHORT, first="stem", batch_norm="trained"))
    old, new = encoder.trunk.layer4[1].bn2, model.encoder.trunk.layer4[1].bn2
    assert not torch.equal(old.running_mean, new.running_mean)
    assert not torch.equal(old.weight, new.weight)
    assert not model.training


@pytest.mark.parametrize("views", [None, 2])
def test_a_seed_repeats_itself(
    encoder: Encoder, labelled: tuple[Tensor, np.ndarray], views: int | None
) -> None:
    settings = replace(SHORT, views=views)
    first, again, other = (
        finetune(encoder, *labelled, settings, seed=seed).score(labelled[0]) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def fine_tuned_plainly(
    encoder: Encoder,
    images: Tensor,
    labels: np.ndarray,
    settings: FinetuneSettings,
    seed: int,
) -> Classifier:
    """The recipe written out: every step sends pictures through the whole network."""
    random = generator(seed, "finetune")
    with torch.no_grad():
        start = encoder(images).numpy()
    model = Classifier(copy.deepcopy(encoder).eval(), prototype_head(start, labels))
    views = torch.stack(
        [_view(encoder, images, settings, random) for _ in range(settings.views or 0)]
    )
    moving = [
        value
        for key, value in model.encoder.trunk.named_parameters()
        if key.startswith(("layer2", "layer3", "layer4")) and "bn" not in key
        if "downsample.1" not in key
    ]
    for value in moving:
        value.requires_grad_(True)
    groups = [{"params": moving, "lr": 1e-4}, {"params": model.head.parameters(), "lr": 1e-3}]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    truth = torch.from_numpy(labels).float()
    batches = -(-len(images) // settings.batch_size)
    steps = settings.epochs * batches
    for epoch in range(settings.epochs):
        order = torch.randperm(len(images), generator=random).tensor_split(batches)
        for number, rows in enumerate(order):
            step = epoch * batches + number
            for group, lr in zip(optimiser.param_groups, (1e-4, 1e-3), strict=True):
                group["lr"] = lr * (1 + np.cos(np.pi * step / steps)) / 2
            which = torch.randint(len(views), (len(rows),), generator=random)
            logits = model(views[which, rows])[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model


def test_reusing_frozen_features_changes_nothing(
    encoder: Encoder, labelled: tuple[Tensor, np.ndarray]
) -> None:
    settings = replace(SHORT, epochs=3)
    reused = finetune(encoder, *labelled, settings, seed=4)
    plain = fine_tuned_plainly(encoder, *labelled, settings, seed=4)
    start = encoder.state_dict()
    expected = plain.encoder.state_dict()
    for key, value in reused.encoder.state_dict().items():
        moved = (expected[key] - start[key]).float().abs().mean()
        gap = (expected[key] - value).float().abs().mean()
        assert gap <= 1e-3 * moved, key
    np.testing.assert_allclose(
        reused.score(labelled[0]), plain.eval().score(labelled[0]), rtol=1e-3, atol=1e-3
    )
    other = fine_tuned_plainly(encoder, *labelled, settings, seed=5)  # the tolerance tells apart
    key = "trunk.layer4.1.conv2.weight"
    gap = (other.encoder.state_dict()[key] - reused.encoder.state_dict()[key]).abs().mean()
    assert gap > 0.1 * (expected[key] - start[key]).abs().mean()


def test_fine_tuning_learns_what_the_frozen_features_hide(encoder: Encoder) -> None:
    """A texture: fine stripes against coarse ones, at random places and brightness."""
    random = np.random.default_rng(0)

    def stripes(n: int, period: int) -> np.ndarray:
        phase, level = random.uniform(0, 6.28, (n, 1, 1)), random.uniform(0.3, 0.7, (n, 1, 1))
        wave = np.sin(2 * np.pi * np.arange(32) / period + phase)
        noise = random.normal(0, 0.15, (n, 32, 32))
        return np.clip(level + 0.12 * wave + noise, 0, 1)

    def batch(n: int) -> Tensor:
        both = np.concatenate([stripes(n, 4), stripes(n, 6)])
        return torch.from_numpy(both[:, None]).float()

    labels, held_out = np.repeat([1, 0], 8), np.repeat([1, 0], 30)
    recipe = replace(settings_for("random"), epochs=30)
    still = replace(recipe.augmentation, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), rotation=0)
    train, test = batch(8), batch(30)
    frozen = prototype_head(Classifier(encoder, _any_head()).encoder(train).numpy(), labels)
    before = auc(held_out, Classifier(encoder, frozen).score(test))
    model = finetune(encoder, train, labels, replace(recipe, augmentation=still))
    after = auc(held_out, model.score(test))
    assert after > 0.9
    assert after > before


def _any_head():
    return prototype_head(np.eye(2, 512) + 1, np.array([1, 0]))


def test_the_series_clamps_below_the_mean_and_scxr_does_not(encoder: Encoder) -> None:
    images = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    seen = {
        name: encoder.normalise(_view(encoder, images, SETTINGS[name], generator(0, "test")))
        for name in ("series", "sound")
    }
    assert seen["series"].min() >= -1e-5  # every pixel below the mean became the mean
    assert seen["series"].max() <= 1 + 1e-5
    assert (seen["sound"] < -0.5).float().mean() > 0.05


def test_settings_follow_the_name_of_the_init() -> None:
    assert settings_for("moco").first == "layer2"
    assert settings_for("spark-quick", setting="series").first == "layer3"
    scratch = settings_for("random", quick=False)
    assert (scratch.first, scratch.batch_norm, scratch.epochs) == ("stem", "trained", 100)
    assert settings_for("random", setting="series").batch_norm == "frozen"
    assert settings_for("moco", quick=True).epochs < settings_for("moco", quick=False).epochs


def test_fine_tuned_inits_share_the_probes_frame(
    target: RadiographStore, encoder: Encoder, findings: list[str]
) -> None:
    episodes = draw_experiment(target, findings[:1], (2,), 2)
    both = {"random": encoder, "other": encoder}
    scores = finetune_scores(both, target, episodes, settings=SHORT, progress=False, jobs=2)
    assert tuple(scores.columns) == SCORE_COLUMNS
    first, second = (scores[scores["init"] == name] for name in both)
    np.testing.assert_array_equal(first["row"], second["row"])
    np.testing.assert_allclose(first["score"], second["score"], rtol=1e-5)  # same net, same seed
    alone = finetune_scores(
        {"random": encoder}, target, episodes, settings=SHORT, progress=False, jobs=1
    )
    np.testing.assert_allclose(first["score"], alone["score"], rtol=1e-5)
    threads = torch.get_num_threads()
    table = evaluate_finetune(
        {"random": encoder}, target, findings[:1], (2,), 2, settings=SHORT, progress=False
    )
    assert torch.get_num_threads() == threads
    assert table.loc[0, "trials"] == 2


def test_what_cannot_be_fine_tuned(encoder: Encoder, labelled: tuple[Tensor, np.ndarray]) -> None:
    images, labels = labelled
    with pytest.raises(InputError, match="all the labels"):
        finetune(encoder, images, np.zeros(6))
    with pytest.raises(InputError, match="no stages to fine-tune"):
        finetune(PixelEncoder(), images, labels)
    with pytest.raises(InputError, match="images are NaN"):
        finetune(encoder, images * float("nan"), labels, SHORT)
    for wrong in ({"first": "layer9"}, {"batch_norm": "off"}, {"epochs": 0}):
        with pytest.raises(InputError):
            FinetuneSettings(**wrong)
    with pytest.raises(InputError, match="Unknown setting"):
        settings_for("moco", setting="best")
