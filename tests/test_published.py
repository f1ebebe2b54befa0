"""The published tables against the texts they were copied from, and the arithmetic on them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scxr import published
from scxr.errors import InputError


def average(mode: str, method: str, shots: int, init: str) -> float:
    table = published.averages()
    row = table[(table["mode"] == mode) & (table["method"] == method) & (table["shots"] == shots)]
    return float(row[init].iloc[0])


def test_the_tables_are_complete() -> None:
    table = published.fewshot()
    assert len(table) == 900
    sizes = {"mode": 2, "method": 3, "init": 3, "finding": 10, "shots": 5}
    assert {name: table[name].nunique() for name in sizes} == sizes
    assert not table.duplicated(list(sizes)).any()
    assert table["auc_mean"].between(0, 1).all() and table["auc_std"].between(0, 0.5).all()
    assert len(published.t_tests()) == 60
    assert set(published.training_cost()["method"]) == {"MoCo v2", "BarlowTwins", "SparK", "DINO"}
    assert published.collapse_logs()["source"].notna().all()


# The averages printed in the appendix (50 shots) and the text (1 to 50) of the series' part 6.
@pytest.mark.parametrize(
    ("mode", "method", "shots", "init", "printed"),
    [
        ("probe", "moco-v2", 50, "ssl", 0.751),
        ("probe", "moco-v2", 50, "imagenet", 0.669),
        ("probe", "moco-v2", 50, "random", 0.588),
        ("probe", "moco-v2", 1, "ssl", 0.629),
        ("finetune", "moco-v2", 50, "ssl", 0.678),
        ("finetune", "moco-v2", 50, "imagenet", 0.641),
        ("finetune", "moco-v2", 20, "ssl", 0.690),
        ("probe", "barlow", 50, "ssl", 0.732),
        ("finetune", "barlow", 50, "ssl", 0.729),
        ("finetune", "barlow", 50, "random", 0.616),
        ("probe", "spark", 50, "ssl", 0.717),
        ("finetune", "spark", 50, "ssl", 0.714),
        ("finetune", "spark", 50, "imagenet", 0.630),
    ],
)
def test_averages_are_those_of_the_appendix(
    mode: str, method: str, shots: int, init: str, printed: float
) -> None:
    assert average(mode, method, shots, init) == pytest.approx(printed, abs=0.00101)


def test_single_results_are_those_of_the_appendix() -> None:
    table = published.fewshot().set_index(["mode", "method", "init", "finding", "shots"])
    for init, mean, std in (("ssl", 0.506, 0.061), ("random", 0.545, 0.063)):
        row = table.loc[("probe", "moco-v2", init, "calcified granuloma", 50)]
        assert (row["auc_mean"], row["auc_std"]) == (mean, std)
    fibrosis = table.loc[("probe", "barlow", "ssl", "pulmonary fibrosis", 50)]
    assert (fibrosis["auc_mean"], fibrosis["auc_std"]) == (1.0, 0.0)


def test_the_series_own_t_tests_come_out_again() -> None:
    keys = ["mode", "method", "shots", "versus"]
    both = published.t_tests().merge(
        published.recomputed_t_tests(), on=keys, suffixes=("", "_ours")
    )
    assert len(both) == 60
    assert (both["t"].astype(float) - both["t_ours"]).abs().max() < 0.02  # AUCs have 3 decimals
    assert (both["p"] - both["p_ours"]).abs().max() < 0.007


def test_one_t_test_written_out() -> None:
    table = published.fewshot().query("mode == 'probe' and method == 'moco-v2' and shots == 5")
    wide = table.pivot(index="finding", columns="init", values="auc_mean")
    gain = wide["ssl"] - wide["imagenet"]
    t = gain.mean() / (gain.std(ddof=1) / np.sqrt(10))
    ours = published.recomputed_t_tests().query(
        "mode == 'probe' and method == 'moco-v2' and shots == 5 and versus == 'imagenet'"
    )
    assert ours["t"].item() == pytest.approx(t)
    assert ours["p"].item() == pytest.approx(2 * stats.t.sf(abs(t), 9))


def test_correction_leaves_few_of_the_claims_standing() -> None:
    tests = published.recomputed_t_tests()
    assert (tests["p_holm"] >= tests["p"]).all()
    assert tests["p_holm"].min() == pytest.approx(60 * tests["p"].min())
    assert (tests["p_holm"] < 0.05).sum() < (tests["p"] < 0.05).sum()


def test_counts_of_findings_won() -> None:
    wins = published.wins("imagenet").set_index(["mode", "method", "shots"])
    assert wins.loc[("probe", "barlow", 50), "won"] == 9  # "9 of 10 diseases", part 6
    assert wins.loc[("probe", "barlow", 50), "worst"] == "fibrotic band"
    margin = published.margins("random").query(
        "mode == 'probe' and method == 'moco-v2' and shots == 50 and difference <= 0"
    )
    assert list(margin["finding"]) == ["calcified granuloma"]


@pytest.mark.parametrize("versus", published.BASELINES)
def test_every_claim_holds_on_average_and_for_no_method_always(versus: str) -> None:
    table = published.beats_at_every_shot_count(versus)
    assert (table["average_won"] == table["shot_counts"]).all()
    assert (table["findings_won_everywhere"] < table["findings"]).all()
    assert set(table["verdict"]) == {"holds on average"}
    won = published.wins(versus).groupby(["mode", "method"])["won"].sum()
    pd.testing.assert_series_equal(
        table.set_index(["mode", "method"])["cells_won"], won, check_names=False
    )


def test_the_answer_is_text_and_json() -> None:
    text = published.summary()
    for words in ("0.751", "holds on average", "moco-v1", "BarlowTwins", "Sources"):
        assert words in text
    parsed = json.loads(json.dumps(published.as_dict(), allow_nan=False))
    assert len(parsed["fewshot"]) == 900
    dino = next(row for row in parsed["training_cost"] if row["method"] == "DINO")
    assert dino["final_run_hours"] is None


def test_tables_are_handed_out_as_copies() -> None:
    mine = published.fewshot()
    mine["auc_mean"] = 0.0
    assert published.fewshot()["auc_mean"].max() == 1.0
    with pytest.raises(InputError, match="no baseline 'dino'"):
        published.margins("dino")
