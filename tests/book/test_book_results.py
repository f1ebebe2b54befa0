"""The tables that pages show are those that the scripts would write today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from scxr import published
from scxr.evaluate.statistics import score_interval

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RESULTS, CARDS = load("results"), load("model_cards")


@pytest.mark.parametrize("name", RESULTS.TABLES)
def test_table_is_in_step_with_its_script(name, tmp_path):
    RESULTS.TABLES[name]().to_csv(tmp_path / name, index=False)
    assert (BOOK / name).read_text() == (tmp_path / name).read_text(), "run: scripts/results.py"


def test_averages_are_means_of_the_published_rows():
    shown = pd.read_csv(BOOK / "results-averages.csv")
    shown = shown.query("mode == 'probe' and method == 'MoCo v2'").set_index("start")["50 shots"]
    rows = published.fewshot().query("mode == 'probe' and method == 'moco-v2' and shots == 50")
    for column, init in (("SSL", "ssl"), ("ImageNet", "imagenet"), ("random", "random")):
        mean = rows.query("init == @init")["auc_mean"].mean()
        assert shown[column] == pytest.approx(mean, abs=5.1e-4), init


def test_certainty_is_the_score_interval():
    shown = pd.read_csv(BOOK / "field-guide-certainty.csv").set_index(
        "held-out patients with the finding"
    )
    low, high = score_interval(0.75, 10, 10)
    assert shown.loc[10, "an AUC of 0.75 means"] == f"{low:.2f} to {high:.2f}"


def test_recipes_of_the_cards_are_those_of_the_package():
    shown = pd.read_csv(BOOK / "model-card-recipes.csv", dtype=str).set_index("encoder")
    now = CARDS.recipes().set_index("encoder").loc[shown.index]
    # A changed preset needs new measurements: scripts/model_cards.py, some minutes.
    assert_frame_equal(shown, now, check_dtype=False)


def test_every_card_has_its_recipe_table_and_section():
    page = (BOOK / "model-cards.md").read_text()
    encoders = pd.read_csv(BOOK / "model-card-recipes.csv")["encoder"]
    means = pd.read_csv(BOOK / "model-card-means.csv").set_index("encoder")
    names = {method.__name__: name for name, method in CARDS.METHODS.items()}
    for encoder in encoders:
        table = pd.read_csv(BOOK / f"model-card-{names[encoder]}.csv")
        assert f"\n## {encoder}\n" in page
        assert f":file: model-card-{names[encoder]}.csv" in page
        # The mean of the rounded entries is the mean that the page shows.
        shown = table[encoder].str.split(" ").str[0].astype(float).mean()
        assert shown == pytest.approx(means.loc[encoder, "20 shots"], abs=0.006)
