"""From run folders to tables and figures, as the command line calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from scxr.data import RadiographStore
from scxr.errors import InputError
from scxr.evaluate import evaluate
from scxr.explain import explain
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
    assert list(table["init"]) == ["tiny", "random", "centre prior"]
    with pytest.raises(InputError, match="at least one image"):
        explain([folder], target, findings[0], images=0)


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
