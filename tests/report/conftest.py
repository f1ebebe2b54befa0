"""An evaluation whose findings and patients have names that must not come through."""

from __future__ import annotations

import pytest
import torch
from disguised import HOSTILE, renamed

from scxr.data import RadiographStore
from scxr.data.episodes import count_findings
from scxr.evaluate import Evaluation, run_evaluation
from scxr.pretrain import pretrain
from scxr.report.page import render

COMMAND = "scxr evaluate runs/moco --findings '<b>mass</b>'"


@pytest.fixture(scope="session")
def names(target: RadiographStore) -> dict[str, str]:
    """The most frequent finding gets a name that is code."""
    return {str(count_findings(target.table)["finding"].iloc[0]): HOSTILE}


@pytest.fixture(scope="session")
def evaluation(
    target: RadiographStore, names: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Evaluation:
    """A MoCo run of two steps beside two baselines on two findings."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("report")
    store = RadiographStore.open(renamed(target, folder / "store", names, masks=True))
    settings = {"steps": 2, "batch_size": 8, "image_size": 32}
    run = pretrain("moco", store, folder / "run", settings=settings)
    plain = count_findings(target.table)["finding"].iloc[1]
    return run_evaluation(
        [run.path],
        store,
        findings=[HOSTILE, plain],
        shots=(1, 2, 5),
        trials=3,
        cache=folder / "cache",
        jobs=1,
        progress=False,
    )


@pytest.fixture(scope="session")
def page(evaluation: Evaluation) -> str:
    return render(evaluation, command=COMMAND, images=2)
