"""What an evaluation knows beyond its table: the best baseline, and paired comparisons."""

from __future__ import annotations

import pandas as pd
import pytest

from scxr.data import RadiographStore
from scxr.errors import InputError
from scxr.evaluate import PixelEncoder, compare, draw_experiment, probe_scores, summarise
from scxr.evaluate.overview import Evaluation, run_evaluation
from scxr.evaluate.probe import evaluate_probe


@pytest.fixture(scope="module")
def evaluation(target: RadiographStore, findings: list[str]) -> Evaluation:
    """Three pixel baselines, the smallest of which plays a run."""
    encoders = {f"{size} px": PixelEncoder(size) for size in (4, 8, 16)}
    episodes = draw_experiment(target, findings, (1, 3), 2)
    scores = probe_scores(encoders, target, episodes, cache=False, jobs=1, progress=False)
    settings = {"shots": [1, 3], "trials": 2, "seed": 42, "negatives": "No Finding"}
    return Evaluation(target, {"4 px": None}, encoders, "probe", settings, scores)


def test_results_are_the_summary_and_cannot_be_spoilt(evaluation: Evaluation) -> None:
    pd.testing.assert_frame_equal(evaluation.results(), summarise(evaluation.scores))
    spoilt = evaluation.results()
    spoilt["auc_mean"] = 0
    assert (evaluation.results()["auc_mean"] > 0).any()


def test_the_best_baseline_has_the_highest_mean_and_is_no_run(evaluation: Evaluation) -> None:
    means = summarise(evaluation.scores).groupby("init")["auc_mean"].mean()
    assert evaluation.best_baseline() == means.drop("4 px").idxmax()


def test_runs_are_compared_with_it_as_one_family(evaluation: Evaluation) -> None:
    best = evaluation.best_baseline()
    table = evaluation.comparison(test="delong")
    assert set(table["init"]) == {"4 px"} and set(table["baseline"]) == {best}
    pair = evaluation.scores[evaluation.scores["init"].isin(["4 px", best])]
    pd.testing.assert_frame_equal(table, compare(pair, best, test="delong"))
    assert set(evaluation.comparison("16 px", test="delong")["init"]) == {"4 px", "8 px"}


def test_nothing_to_compare_with(evaluation: Evaluation) -> None:
    alone = Evaluation(
        evaluation.store,
        evaluation.runs,
        {"4 px": evaluation.encoders["4 px"]},
        "probe",
        {},
        evaluation.scores[evaluation.scores["init"] == "4 px"],
    )
    assert alone.best_baseline() is None
    with pytest.raises(InputError, match="add a baseline"):
        alone.comparison()


def test_an_evaluation_is_evaluate_probe_with_its_settings(
    target: RadiographStore, findings: list[str]
) -> None:
    asked = {"seed": 7, "setting": "series", "cache": False, "progress": False}
    done = run_evaluation(
        [], target, findings=findings[:1], shots=(3, 1), trials=2, baselines=("pixels",), **asked
    )
    expected = evaluate_probe({"pixels": PixelEncoder()}, target, findings[:1], (1, 3), 2, **asked)
    pd.testing.assert_frame_equal(done.results(), expected)
    assert done.settings["shots"] == [1, 3] and done.settings["setting"] == "series"
    assert done.baselines == ["pixels"] and done.findings == findings[:1]


def test_pixels_alone_cannot_be_fine_tuned(target: RadiographStore, findings: list[str]) -> None:
    with pytest.raises(InputError, match="nothing to fine-tune in pixels: name a run"):
        run_evaluation([], target, mode="finetune", findings=findings, baselines=("pixels",))
