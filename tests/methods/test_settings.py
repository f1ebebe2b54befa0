"""Settings as they are typed: converted, checked, and near misses named."""

from __future__ import annotations

import dataclasses
import json

import pytest

from scxr.augment import Augmentation
from scxr.errors import InputError
from scxr.methods import METHODS
from scxr.methods.dino import DINOSettings
from scxr.methods.moco import MoCoSettings
from scxr.methods.settings import to_dict, with_changes


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("lr", "1e-3", 1e-3),
        ("lr", "1", 1.0),
        ("batch_size", "64", 64),
        ("head_norm", "true", True),
        ("head_norm", "False", False),
        ("optimizer", "sgd", "sgd"),
        ("betas", "0.9,0.95", (0.9, 0.95)),
        ("betas", "(0.9, 0.95)", (0.9, 0.95)),
        ("clip", "none", None),
        ("clip", "2", 2.0),
        ("epochs", "3", 3),
        ("augmentation.crop_scale", "0.2,1", (0.2, 1.0)),
        ("augmentation.flip", "0", 0.0),
        ("augmentation.blur_kernel", "5", 5),
    ],
)
def test_text_becomes_what_the_setting_is(key, text, expected):
    changed = with_changes(MoCoSettings(), {key: text})
    for part in key.split("."):
        changed = getattr(changed, part)
    assert changed == expected
    assert type(changed) is type(expected)


def test_python_values_pass_as_they_are():
    changes = {"lr": 0.1, "betas": [0.8, 0.9], "augmentation": Augmentation(flip=0.0), "clip": None}
    changed = with_changes(MoCoSettings(), changes)
    assert (changed.lr, changed.betas, changed.clip) == (0.1, (0.8, 0.9), None)
    assert changed.augmentation.flip == 0


def test_what_is_not_named_stays():
    before = MoCoSettings()
    after = with_changes(before, {"augmentation.flip": 0.1})
    assert dataclasses.replace(after, augmentation=before.augmentation) == before
    assert dataclasses.replace(after.augmentation, flip=before.augmentation.flip) == (
        before.augmentation
    )


def test_steps_and_epochs_exclude_each_other():
    assert with_changes(MoCoSettings(epochs=5), {"steps": 7}).epochs is None
    assert with_changes(MoCoSettings(steps=7), {"epochs": "5"}).steps is None
    with pytest.raises(InputError, match="steps or epochs, not both"):
        with_changes(MoCoSettings(), {"steps": 7, "epochs": 5})


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("learning_rat", "lr"),
        ("temprature", "temperature"),
        ("queue_sise", "queue_size"),
        ("augmentation.crop_scal", "crop_scale"),
    ],
)
def test_unknown_settings_are_named_with_their_neighbour(key, near):
    with pytest.raises(InputError, match=f"There is no setting '{key}'.*{near}"):
        with_changes(MoCoSettings(), {key: "1"})


@pytest.mark.parametrize("key", ["lr.peak", "augmentatio.flip", "betas.0", ""])
def test_reaching_into_what_has_no_parts_is_refused(key):
    with pytest.raises(InputError, match="There is no setting"):
        with_changes(MoCoSettings(), {key: "1"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", "fast"),
        ("lr", "true"),
        ("batch_size", "64.5"),
        ("batch_size", "1e2"),
        ("head_norm", "1"),
        ("betas", "0.9"),
        ("betas", "0.9,0.95,0.99"),
        ("betas", "a,b"),
        ("steps", ""),
        ("steps", "__import__('os')"),
        ("augmentation", "strong"),
    ],
)
def test_values_that_do_not_fit_are_refused(key, value):
    with pytest.raises(InputError, match=f"{key}.*does not fit"):
        with_changes(MoCoSettings(), {key: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation.crop_scale": "0.9,0.2"}, "crop_scale"),
        ({"augmentation.crop_scale": "0,1"}, "crop_scale"),
        ({"augmentation.blur_kernel": "4"}, "blur_kernel is 4, but must be odd"),
        ({"steps": "0"}, "steps"),
        ({"epochs": "-1"}, "epochs"),
        ({"batch_size": "1"}, "batch_size"),
        ({"lr": "-1"}, "lr"),
        ({"image_size": "0"}, "image_size"),
    ],
)
def test_values_without_a_meaning_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        with_changes(MoCoSettings(), changes)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("preset", ["quick", "full"])
def test_presets_survive_json(method, preset):
    settings = METHODS[method].presets[preset]
    plain = json.loads(json.dumps(to_dict(settings)))
    assert set(plain) == {f.name for f in dataclasses.fields(settings)}
    assert with_changes(settings, {k: v for k, v in plain.items() if k not in DERIVED}) == settings


DERIVED = ("steps", "epochs", "augmentation")


def test_full_presets_are_the_published_recipe():
    full = {name: method.presets["full"] for name, method in METHODS.items()}
    assert [full[m].backbone for m in ("moco", "barlow", "dino", "spark")] == [
        *("resnet50", "resnet18", "resnet50", "resnet50"),
    ]
    assert [full[m].batch_size for m in ("moco", "barlow", "dino", "spark")] == [384, 512, 64, 256]
    assert (full["moco"].queue_size, full["moco"].key_momentum) == (65_536, 0.999)
    assert (full["moco"].temperature, full["moco"].lr) == (0.07, 0.045)
    assert full["barlow"].redundancy == 0.005
    assert isinstance(full["dino"], DINOSettings)
    assert full["dino"].teacher_temperature == (0.07, 0.04)
    assert (full["spark"].patch_size, full["spark"].mask_ratio) == (32, 0.6)
