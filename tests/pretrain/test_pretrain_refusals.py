"""What cannot be trained is refused in a sentence, and leaves what was there as it was."""

from __future__ import annotations

import pytest
from tiny_runs import OWN, SIZE, TINY, content, train, write_store

from scxr.data import RadiographStore
from scxr.errors import InputError
from scxr.pretrain import pretrain


def test_a_folder_of_another_run_is_refused_and_kept(finished, store, tmp_path):
    run = finished("barlow")
    before = content(run.path)
    with pytest.raises(InputError, match="holds a barlow run, not moco: choose another --out"):
        train("moco", store, run.path)
    with pytest.raises(InputError, match="with other settings, precision, seed or data"):
        train("barlow", store, run.path, settings={"lr": 0.5})
    with pytest.raises(InputError, match="with other settings, precision, seed or data"):
        train("barlow", store, run.path, seed=1)
    write_store(tmp_path / "store", 48)
    with pytest.raises(InputError, match="with other settings, precision, seed or data"):
        train("barlow", RadiographStore.open(tmp_path / "store"), run.path)
    assert content(run.path) == before


def test_an_interrupted_run_of_another_method_is_refused_and_kept(store, stopped):
    before = content(stopped)
    with pytest.raises(InputError, match="holds a barlow run, not dino"):
        train("dino", store, stopped)
    assert content(stopped) == before


def test_a_folder_of_something_else_is_refused_and_kept(store, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="exists and is no run folder: choose another --out"):
        train("barlow", store, tmp_path)
    with pytest.raises(InputError, match="exists and is no run folder"):
        train("barlow", store, tmp_path / "thesis.tex")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')  # others use that name too
    with pytest.raises(InputError, match=r"config\.json"):
        train("barlow", store, tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {"thesis.tex", "config.json"}


def test_an_empty_folder_is_a_place_like_any_other(store, tmp_path):
    assert train("barlow", store, tmp_path, settings={"steps": 1}).finished


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("moko", {}, "Unknown method 'moko': choose from moco, barlow, vicreg, dino, spark"),
        ("moco", {"preset": "fast"}, "Unknown preset 'fast': choose from quick, full"),
        ("moco", {"settings": {"batch_size": 65, "queue_size": 65}}, "holds 64 images, fewer than"),
        ("moco", {"settings": {"queue_sise": 64}}, "did you mean 'queue_size'"),
        ("moco", {"settings": {"queue_size": 3}}, "queue_size 3 is smaller than batch_size 16"),
        ("moco", {"settings": {"backbone": "resnet19"}}, "Unknown backbone"),
        ("moco", {"settings": {"optimizer": "adam"}}, "Unknown optimizer 'adam'"),
        ("moco", {"settings": {"steps": "0"}}, "steps is 0"),
        ("spark", {"settings": {"patch_size": 7}}, "does not divide"),
        ("moco", {"device": "abacus"}, "abacus"),
        ("moco", {"precision": "64-untrue"}, "Unknown precision '64-untrue': choose from auto, 32"),
        ("moco", {"precision": "bf16-true"}, "Unknown precision 'bf16-true': choose from auto, 32"),
        ("moco", {"precision": "16-mixed"}, "16-mixed needs a GPU: choose bf16-mixed or 32-true"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing_behind(
    store, tmp_path, method, options, message
):
    settings = {**TINY, **OWN.get(method, {}), **options.pop("settings", {})}
    options = {"device": "cpu", "precision": "32-true", **options}
    with pytest.raises(InputError, match=message):
        pretrain(method, store, tmp_path / "run", settings=settings, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("pictures", "message"), [({"width": 2 * SIZE}, "square"), ({"value": 0}, "one grey value")]
)
def test_pictures_that_cannot_be_learned_from_are_refused(tmp_path, pictures, message):
    write_store(tmp_path / "store", 16, **pictures)
    with pytest.raises(InputError, match=message):
        train("moco", RadiographStore.open(tmp_path / "store"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
