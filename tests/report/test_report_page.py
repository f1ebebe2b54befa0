"""The page says all that there is, and nothing that must not be in it."""

from __future__ import annotations

import base64
import dataclasses
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from disguised import HOSTILE, renamed

from scxr.data import RadiographStore
from scxr.errors import InputError
from scxr.evaluate import Evaluation
from scxr.evaluate.scaling import fit_scaling
from scxr.report import numbers, write_report
from scxr.report.page import render


class Reader(HTMLParser):
    """Tags with their attributes, and the text by section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {}
        self.section = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "section":
            self.section = dict(attrs)["id"] or ""

    def handle_data(self, data: str) -> None:
        self.text[self.section] = " ".join((self.text.get(self.section, "") + data).split()) + " "


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    return Reader(page)


def addresses(reader: Reader) -> list[str]:
    return [a[k] for _, a in reader.tags for k in ("src", "href") if k in a]


def decoded(address: str) -> str:
    return base64.b64decode(address.partition(",")[2]).decode("utf-8", errors="replace")


def test_it_needs_nothing_but_itself(page: str, read: Reader) -> None:
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object", "base"}
    assert all(a.startswith(("data:image/", "data:text/csv", "#")) for a in addresses(read))
    assert "url(" not in page and "@import" not in page
    assert not [name for _, attributes in read.tags for name in attributes if name[:2] == "on"]
    assert len(page.encode()) < 3_000_000


def test_names_are_text_and_never_code(page: str, read: Reader) -> None:
    assert "<script" not in page and "<b>mass" not in page
    assert HOSTILE in read.text["results"] and HOSTILE in read.text["maps"]
    assert "--findings '<b>mass</b>'" in read.text["made"]


def test_no_patient_is_named(page: str, evaluation: Evaluation, read: Reader) -> None:
    everything = [page, *map(decoded, addresses(read)[1:])]
    for patient in set(evaluation.store.table["patient"]) | {"Müller", "Änne"}:
        assert not any(patient in text for text in everything)


def test_every_picture_is_described(read: Reader) -> None:
    texts = [attributes["alt"] for tag, attributes in read.tags if tag == "img"]
    assert len(texts) == 3 + 1 + 2  # mean and findings, fitted curves, Grad-CAM of both
    assert len(set(texts)) == len(texts) and all(len(text) > 40 for text in texts)


def test_it_says_with_what_it_was_made(evaluation: Evaluation, read: Reader) -> None:
    told = read.text["compared"]
    precision = evaluation.runs["run"].config["precision"]
    for fact in ("moco", "quick", "resnet18, 32 px", precision, "of this store", "400", "sound"):
        assert fact in told, fact
    assert f"mean {evaluation.store.mean:.4f}".rstrip("0") in told
    assert "Not a medical device" in read.text[""]
    assert "saw these very images" in read.text["limits"]


def test_the_tables_are_the_results(evaluation: Evaluation, read: Reader) -> None:
    exact = [pd.read_csv(StringIO(decoded(a))) for a in addresses(read) if a.startswith("data:t")]
    results = evaluation.results()
    pd.testing.assert_frame_equal(
        exact[0], results, check_dtype=False, rtol=1e-9, check_exact=False
    )
    assert len(exact[1]) == 2 * 3  # the run against the best baseline alone
    assert set(exact[1]["baseline"]) == {evaluation.best_baseline()}
    for row in results.itertuples():
        decimals = numbers.digits(row.auc_step)
        shown = (
            f"{row.auc_mean + 0.0:.{decimals}f} {numbers.span(row.ci_low, row.ci_high, decimals)}"
        )
        assert shown in read.text["results"]
        assert f"{row.val_positives} to validate on" in read.text["results"]
        assert f"only {row.val_patients} validation patients" in read.text["results"]


def test_labels_needed_are_those_of_the_fit(evaluation: Evaluation, read: Reader) -> None:
    answer = fit_scaling(evaluation.scores, init="run").labels_needed(0.7)
    assert answer.sentence in read.text["labels"]


def test_regions_and_priors_stand_beside_the_maps(read: Reader) -> None:
    assert "energy inside" in read.text["maps"] and "centre prior" in read.text["maps"]
    assert "Not shown: pixels" in read.text["maps"]


def part(evaluation: Evaluation, **changes) -> Evaluation:
    """The same evaluation with less in it."""
    kept = {k: v for k, v in changes.items() if k in ("encoders", "runs", "store")}
    scores = evaluation.scores
    for column, wanted in changes.items():
        if column in scores:
            scores = scores[scores[column].isin(wanted)]
    if "encoders" in changes:
        scores = scores[scores["init"].isin(changes["encoders"])]
    return dataclasses.replace(evaluation, scores=scores, **kept)


def test_one_finding_at_one_shot_count(evaluation: Evaluation) -> None:
    told = Reader(render(part(evaluation, finding=[HOSTILE], shots=[5]), images=0)).text
    assert "at least three shot counts" in told["labels"]
    assert "Mean AUC" not in told["results"]
    assert f"for {HOSTILE}" in told["in-short"]
    assert "Pictures were left out" in told["maps"]


def test_two_shot_counts_give_means_without_interval(evaluation: Evaluation) -> None:
    told = Reader(render(part(evaluation, shots=[1, 5]), images=0)).text
    assert "Without an interval" in told["results"]


def test_no_baseline_no_comparison(evaluation: Evaluation) -> None:
    alone = part(evaluation, encoders={"run": evaluation.encoders["run"]})
    told = Reader(render(alone, images=0)).text
    assert "add a baseline" in told["comparison"]
    assert "best baseline" not in told["in-short"]


def test_baselines_alone_are_compared_with_the_best_of_them(evaluation: Evaluation) -> None:
    inits = {name: evaluation.encoders[name] for name in ("pixels",)}
    told = Reader(render(part(evaluation, encoders=inits, runs={}), images=2)).text
    assert "baselines alone" in told["in-short"]
    assert "None of the inits has a feature map" in told["maps"]
    inits = {name: evaluation.encoders[name] for name in ("pixels", "random")}
    told = Reader(render(part(evaluation, encoders=inits, runs={}), images=0)).text
    assert "best baseline" not in told["in-short"]
    assert "paired comparisons with" in told["in-short"]


def test_a_store_without_regions_still_shows_maps(
    evaluation: Evaluation, target: RadiographStore, names: dict[str, str], tmp_path: Path
) -> None:
    bare = RadiographStore.open(renamed(target, tmp_path / "bare", names, masks=False))
    told = Reader(render(part(evaluation, store=bare, finding=[HOSTILE]), images=1))
    assert "energy inside" not in told.text["maps"]
    assert "of 0 of 1 findings" in told.text["compared"]
    assert [a for t, a in told.tags if t == "img" and "Grad" not in a and "held-out" in a["alt"]]


def test_a_report_is_written_whole_or_not_at_all(evaluation: Evaluation, tmp_path: Path) -> None:
    few = part(evaluation, finding=[HOSTILE], shots=[5])
    written = write_report(few, tmp_path / "new" / "page.html", images=0)
    assert re.match(r"\s*<!DOCTYPE html>", written.read_text(encoding="utf-8"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(few, tmp_path / "file" / "page.html", images=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "new"]


def test_drawn_images_are_of_different_patients() -> None:
    from scxr.report.examples import _different

    patients = np.array(["b", "b", "a", "b", "c"])
    assert _different(patients, 3).tolist() == [0, 2, 4]
    assert _different(patients, 5).tolist() == [0, 2, 4, 1, 3]
