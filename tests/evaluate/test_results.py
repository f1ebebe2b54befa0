"""Tables of results: comparisons by name of the test, and files that read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scxr.errors import InputError
from scxr.evaluate import compare, holm, summarise
from scxr.evaluate.comparison import TESTS
from scxr.evaluate.results import RESULT_COLUMNS, write_table
from scxr.evaluate.simulation import Design

SCORES = Design(12, trials=3, images=1.5, auc=0.85, other=0.6).draw(3)


def test_the_auc_step_stands_beside_the_auc() -> None:
    table = summarise(SCORES)
    assert list(table.columns) == list(RESULT_COLUMNS)
    assert list(RESULT_COLUMNS).index("auc_step") == list(RESULT_COLUMNS).index("auc_mean") + 1
    one = SCORES[(SCORES["init"] == "a") & (SCORES["trial"] == 0)]
    expected = 1 / (one["label"].sum() * (~one["label"]).sum())
    assert table["auc_step"].to_numpy() == pytest.approx(expected)


@pytest.mark.parametrize("test", TESTS)
def test_a_comparison_says_by_which_test(test: str) -> None:
    several = pd.concat(
        [SCORES.assign(shots=5), SCORES.assign(shots=20, score=SCORES["score"].round())]
    )
    table = compare(several, "b", test=test)
    assert (table["test"] == test).all()
    assert table["p_holm"].to_numpy() == pytest.approx(holm(table["p"].to_numpy()))
    means = summarise(several).set_index(["init", "shots"])["auc_mean"]
    for row in table.itertuples():
        assert row.difference == pytest.approx(means["a", row.shots] - means["b", row.shots])
        assert (row.p < 0.05) == (not row.ci_low <= 0 <= row.ci_high)


def test_a_small_p_value_survives_the_correction_for_a_table() -> None:
    clear = Design(60, auc=0.95, other=0.55).draw(0)
    table = compare(pd.concat([clear.assign(finding=str(i)) for i in range(100)]), "b")
    assert table["p_holm"].max() < 0.05


def test_unpaired_inits_and_unknown_tests_are_refused() -> None:
    moved = SCORES.assign(row=SCORES["row"] + (SCORES["init"] == "a"))
    with pytest.raises(InputError, match="different images"):
        compare(moved, "b")
    with pytest.raises(InputError, match="no paired test 'z'"):
        compare(SCORES, "b", test="z")


def test_scores_of_one_class_or_nan_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="positives and negatives"):
        summarise(SCORES[SCORES["label"] == 1])
    with pytest.raises(InputError, match="NaN or infinite"):
        summarise(SCORES.assign(score=np.where(SCORES["row"] == 0, np.nan, SCORES["score"])))


@pytest.mark.parametrize("name", ["table.csv", "deep/er/TABLE.PARQUET"])
def test_a_table_reads_back(tmp_path: Path, name: str) -> None:
    results = summarise(SCORES.assign(positives=3))
    path = write_table(results, tmp_path / name)
    read = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    pd.testing.assert_frame_equal(read, results, check_dtype=False)


def test_a_table_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        write_table(SCORES, tmp_path / "table.xlsx")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        write_table(SCORES, tmp_path / "file" / "table.csv")


def test_one_trial_has_no_spread_and_lopsided_classes_are_noted() -> None:
    scores = Design(3, trials=2).draw(0)
    one = scores[(scores["trial"] == 0) & (scores["init"] == "a")]
    assert np.isnan(summarise(one).iloc[0]["auc_sd"])
    assert np.isfinite(summarise(scores)["auc_sd"]).all()
    assert "without" not in summarise(one).iloc[0]["note"]
    few = pd.concat([one[one["label"] == 1], one[one["label"] == 0].head(2)])
    note = summarise(few).iloc[0]["note"]
    assert "only 3 validation patients with the finding; only 2 validation images without" in note
    few = pd.concat([one[one["label"] == 1].head(1), one[one["label"] == 0]])
    assert "only 1 validation patient with" in summarise(few).iloc[0]["note"]
