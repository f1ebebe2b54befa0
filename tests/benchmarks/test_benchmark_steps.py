"""The benchmark of steps runs every way, and every way trains."""

from __future__ import annotations

import pytest
import torch

from scxr.benchmarks import steps
from scxr.errors import InputError
from scxr.optimisation import build_fabric
from scxr.pretrain import preset_settings


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> steps.Training:
    from scxr.data.phantom import write_store

    store = write_store(tmp_path_factory.mktemp("bench") / "store", 16, size=48)
    settings = preset_settings(
        "barlow", "quick", {"image_size": 32, "batch_size": 4, "projection": 32}
    )
    return steps.Training("barlow", settings, store, build_fabric("cpu", "32-true"))


def test_every_way_has_a_row(training):
    pytest.importorskip("lightly")
    rows = steps.run(
        "moco",
        size=32,
        batch_size=4,
        store=str(training.store.path),
        device="cpu",
        precision="32-true",
        steps=1,
        repeats=1,
    )
    assert [row["way"] for row in rows] == list(steps.WAYS)
    assert all(row["images_per_second"] > 0 and row["device"] == "cpu" for row in rows)
    assert rows[0]["of_limit"] == 1.0


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_for_three_channels_leaves_normalising_to_the_pipeline(training, channels):
    encoder = training.network(channels).encoder
    picture = torch.rand(2, channels, 32, 32)
    assert encoder(picture).shape == (2, 512)
    unchanged = torch.equal(encoder.normalise(picture), picture)
    assert unchanged == (channels == 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"method": "spark"}, "cannot be compared"), ({"steps": 0}, "steps is 0")],
)
def test_what_cannot_be_measured_is_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        steps.run(**options)
