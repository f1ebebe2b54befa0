"""The pipelines' benchmark runs, has every row, and measures pipelines that do the same work."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from scxr.benchmarks import data
from scxr.benchmarks.pipelines import PIPELINES, Task, Views
from scxr.cli import main
from scxr.data import RadiographStore, StoreWriter
from scxr.errors import InputError


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RadiographStore:
    path = tmp_path_factory.mktemp("benchmark") / "store"
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32)).astype(np.uint8)
    with StoreWriter(path, 32, 32, {"kind": "test"}) as writer:
        writer.add(images, [{"image": f"{i}.png", "patient": str(i)} for i in range(6)])
    return RadiographStore.open(path)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_pipeline_and_stage_has_its_row(store, capsys):
    size = ["--size", "16", "--store", str(store.path), "--seconds", "0", "--repeats", "1"]
    main(["bench", "data", *size, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert [row["pipeline"] for row in answer["rows"]] == list(PIPELINES)
    for row in answer["rows"]:
        assert row["size"] == 16
        assert 0 < row["slowest"] <= row["views_per_second"] <= row["fastest"]
        assert row["threads"] == 1
    ratios = {row["pipeline"]: row["ratio"] for row in answer["rows"]}
    assert ratios[data.BASELINE] == 1
    stages = {row["stage"]: row for row in answer["stages"]}
    assert next(iter(stages)) == "gather"
    assert {"to float", "crop, rotation, flip", "brightness, contrast", "blur", "noise"} < set(
        stages
    )
    assert sum(row["share"] for row in stages.values()) == pytest.approx(1, abs=0.01)


def test_a_library_that_is_missing_has_no_row_and_is_named(store, monkeypatch, caplog):
    def missing(task):
        raise ImportError("No module named 'kornia'")
        yield

    kept = {name: PIPELINES[name] for name in ("scxr", data.BASELINE)} | {"kornia": missing}
    monkeypatch.setattr(data, "PIPELINES", kept)
    rows = data.run([8], store.path, seconds=0, repeats=2, batch_size=2)
    assert [row["pipeline"] for row in rows] == ["scxr", data.BASELINE]
    assert [r.getMessage() for r in caplog.records] == [
        "kornia is left out: No module named 'kornia'."
    ]


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_counts_the_views_it_gave(store, name):
    batches = PIPELINES[name](Task(store, 16, views=3, batch_size=4))
    assert [next(batches), next(batches)] == [12, 12]
    batches.close()


def test_images_come_in_their_order_again_and_again(store):
    rows = Task(store, 16, batch_size=4).rows()
    assert [next(rows) for _ in range(3)] == [[0, 1, 2, 3], [0, 1, 4, 5], [2, 3, 4, 5]]
    views = Views(Task(store, 32), lambda image: image, pillow=False)
    assert torch.equal(views[7][0], store.batch([1])[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": 0}, "views is 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"sizes": [0]}, "size of the views is 0"),
        ({"store": "nowhere"}, "no store at nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        data.run(**{"sizes": [8], **changes})
