"""From run folders to tables and figures, as the command line calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from scxr.data import RadiographStore, StoreWriter
from scxr.errors import InputError
from scxr.evaluate import evaluate
from scxr.explain import explain, localise
from scxr.pretrain import pretrain


@pytest.fixture(scope="module")
def folder(target: RadiographStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MoCo run of two steps."""
    settings = {"steps": 2, "batch_size": 8, "image_size": 32}
    return pretrain(
        "moco", target, tmp_path_factory.mktemp("runs") / "tiny", settings=settings
    ).path


def test_explain_draws_inits_beside_each_other(
    folder: Path, target: RadiographStore, findings: list[str]
) -> None:
    figure, table = explain([folder], target, findings[0], images=2, shots=5, stage="layer3")
    assert isinstance(figure, Figure)
    assert [a.get_title().split("\n")[0] for a in figure.axes[:3]] == ["picture", "tiny", "random"]
    assert list(table["init"]) == ["tiny", "random", "centre prior", "atlas prior"]
    options = {"images": 2, "shots": 5, "stage": "layer3", "structure": "own"}
    _, own = explain([folder], target, findings[0].upper(), **options)
    pd.testing.assert_frame_equal(own, table)
    options = {"structures": ["own"], "shots": 5, "stage": "layer3"}
    _, one_of_many = localise([folder], target, [findings[0].upper()], **options)
    pd.testing.assert_frame_equal(one_of_many, table)
    with pytest.raises(InputError, match="at least one image"):
        explain([folder], target, findings[0], images=0)


def test_localise_draws_every_finding_with_regions(
    folder: Path, target: RadiographStore, findings: list[str]
) -> None:
    options = {"shots": 3, "images": 3, "stage": "layer3"}
    figure, table = localise([folder], target, min_train=5, min_val=3, **options)
    assert set(findings) <= set(table["finding"])
    axis = figure.axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert len(names) == table["finding"].nunique()
    shares = [float(name.split("(")[1].rstrip("%)")) for name in names]
    assert shares == sorted(shares)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    wide = table.pivot(index="finding", columns="init", values="enrichment")
    won = (wide["tiny"] > wide["random"]).sum()
    assert f"tiny (above random in {won} of {len(wide)})" in legend
    hits, table = localise([folder], target, findings[:1], measure="hit", **options)
    assert hits.axes[0].get_xlabel() == "peak inside the region, share of images"
    with pytest.raises(InputError, match="Unknown measure 'dice'"):
        localise([folder], target, findings[:1], measure="dice", **options)
    with pytest.raises(InputError, match="several points for one place"):
        localise([folder], target, findings[:1], shots=2, images=2, stage=["layer3", "layer4"])


def test_nothing_to_localise(folder: Path, target: RadiographStore, tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "bare", 32, 32, source={"kind": "test"})
    writer.add(target.images[:], target.table)
    with pytest.raises(InputError, match="regions of its own in held-out patients"):
        localise([folder], writer.finish(), min_train=5, min_val=3)


def test_evaluate_puts_a_run_beside_its_baselines(
    folder: Path, target: RadiographStore, findings: list[str]
) -> None:
    options = {"findings": findings[:1], "shots": (2,), "trials": 2, "progress": False}
    table = evaluate([folder], target, **options)
    assert list(table["init"]) == ["tiny", "random", "pixels"]
    tuned = evaluate([folder], target, mode="finetune", **options)
    assert list(tuned["init"]) == ["tiny", "random"]
    chosen = evaluate(
        [folder], target, min_train=5, min_val=3, shots=(1,), trials=1, baselines=(), progress=False
    )
    assert set(findings) <= set(chosen["finding"])
    assert np.isfinite(chosen["auc_mean"]).all()


def test_nothing_to_evaluate(folder: Path, target: RadiographStore) -> None:
    with pytest.raises(InputError, match="lower --min-train"):
        evaluate([folder], target, min_train=10_000)
    with pytest.raises(InputError, match="Unknown mode"):
        evaluate([folder], target, mode="guess")
