"""What the prose of chapters 1 and 2 says in numbers was computed, or has a source.

`pytest --nbval` computes the outputs of the cells again. Here the prose is held against them, and
sentences that say a number in words are computed anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from scxr.data.exclusions import FURTHER_EXCLUSIONS, SERIES_EXCLUSIONS
from scxr.data.findings import tally
from scxr.data.label_tables import read_label_table
from scxr.data.phantom import HOSPITALS, generate
from scxr.evaluate.statistics import score_interval

CHAPTERS = Path(__file__).resolve().parents[2] / "chapters"
NUMBER = re.compile(r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?(?!\w)")
NOT_PROSE = (
    re.compile(r"```.*?```|`[^`]*`", re.S),  # code
    re.compile(r"arXiv:[\d.]+"),
    re.compile(r"\b(?:19|20)\d\d\b"),  # years
    re.compile(r"(?i)\b(?:chapters?|parts?|stage)\s+\d+(?:(?:,| and| to)\s+\d+)*"),
    re.compile(r"(?m)^(?:# )?\d\. |^\*\*\d\.|^\| \d\. "),  # the numbers of lists and headings
)
# Numbers that no cell computes: who says so.
SOURCES = {
    "01_scarcity": {
        "29": "size of the wheel of torchxrayvision, MB",
        "1.5": "an estimate, said to be one; book/run-times.csv has what was measured",
        "65": "the same estimate",
        "55": "SCARCE-CXR, part 6: the author's first random forest",
        "417": "any pixel",
        "2,212": "Roberts et al. 2021, arXiv:2008.06388",
        "112,120": "Wang et al. 2017, arXiv:1705.02315",
        "1.000": "SCARCE-CXR, part 6, appendix",
        "0.97": "a question's own supposition",
        "0.71": "a question's own supposition",
        "0.76": "a question's own supposition",
    },
    "02_data_and_augmentation": {
        "4,000": "12 bits, as a detector's analogue-to-digital converter has: 4,096",
        "65,535": "the largest number of 16 bits",
        "3,600": "300 + 3300, as the cell says",
        "0.226": "SCARCE-CXR, notes of the public code",
        "448": "a question's own supposition",
        "7": "224 px over a stride of 32 px",
        "49": "7 x 7",
    },
}


def chapter(stem: str) -> nbformat.NotebookNode:
    return nbformat.read(CHAPTERS / f"{stem}.ipynb", as_version=4)


def prose(stem: str) -> str:
    """The text of a chapter without its reading list and the marks of its boxes."""
    texts = [c.source for c in chapter(stem).cells if c.cell_type == "markdown"]
    texts = [text for text in texts if "## Further reading" not in text]
    return "\n".join(re.sub(r"(?m)^> ?", "", text) for text in texts)


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def computed(stem: str) -> set[str]:
    """Every number that stands in the code of a chapter or came out of it."""
    found = ""
    for cell in chapter(stem).cells:
        if cell.cell_type != "code":
            continue
        found += f"\n{cell.source}"
        for output in cell.outputs:
            texts = [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
            found += "\n".join(["", output.get("text", ""), *map(str, texts)])
    return set(NUMBER.findall(found.replace("_", "")))


@pytest.mark.parametrize("stem", SOURCES)
def test_numbers_in_the_prose_are_computed_or_have_a_source(stem):
    text = prose(stem)
    for pattern in NOT_PROSE:
        text = pattern.sub(" ", text)
    known = computed(stem)
    known |= {f"{int(n):,}" for n in known if n.isdigit()}
    said = {number.rstrip(",") for number in NUMBER.findall(text)}
    assert sorted(said - known - set(SOURCES[stem])) == []


@pytest.mark.parametrize("stem", SOURCES)
def test_no_source_is_left_over(stem):
    text = prose(stem)
    assert [number for number in SOURCES[stem] if number not in text] == []


@cache
def tail(archive: str) -> pd.DataFrame:
    counted = tally(read_label_table(archive))
    return counted.assign(patients=counted["train_patients"] + counted["val_patients"])


def rare(diseases_only: bool) -> float:
    """Share of PadChest's names with fewer than 50 patients."""
    reasons = ("says nothing about disease", "hardware", "surgery", "artefact")
    lists = [*(SERIES_EXCLUSIONS[reason] for reason in reasons), *FURTHER_EXCLUSIONS.values()]
    left_out = {name.casefold() for names in lists for name in names} if diseases_only else set()
    names = tail("padchest")
    return (names[~names["finding"].str.casefold().isin(left_out)]["patients"] < 50).mean()


def width(auc: float, positives: int) -> float:
    low, high = score_interval(auc, positives, positives)
    return high - low


def excludes(bound: float, positives: int) -> float:
    """The smallest AUC whose interval lies above `bound`."""
    values = np.linspace(bound, 1, 2001)
    return next(v for v in values if score_interval(v, positives, positives)[0] > bound)


def granuloma() -> float:
    """Pixels of a 32 x 32 picture that a granuloma covers, mean of 20."""
    drawn = generate(np.arange(20), hospital="B", findings=[["calcified granuloma"]] * 20)
    return drawn.masks["calcified granuloma"].mean() * 32**2


def by_physician() -> float:
    return (read_label_table("padchest")["label_method"] == "Physician").mean()


SENTENCES: list[tuple[str, str, Callable[[], bool]]] = [
    (
        "01_scarcity",
        "about one name in four has fewer than fifty patients",
        lambda: abs(rare(False) - 0.25) < 0.03 and abs(rare(True) - 0.25) < 0.03,
    ),
    (
        "01_scarcity",
        "an archive of more than sixty thousand patients",
        lambda: read_label_table("padchest")["patient"].nunique() > 60_000,
    ),
    (
        "01_scarcity",
        "for about a quarter of PadChest by a physician",
        lambda: abs(by_physician() - 0.25) < 0.02,
    ),
    (
        "01_scarcity",
        "To within 0.10, for about half of PadChest's",
        lambda: abs((tail("padchest")["val_patients"] >= 45).mean() - 0.5) < 0.03,
    ),
    ("01_scarcity", "a granuloma covers about four pixels", lambda: abs(granuloma() - 4) < 0.5),
    (
        "01_scarcity",
        "an interval of more than a quarter of the whole scale",
        lambda: width(0.75, 23) > 0.25,
    ),
    (
        "01_scarcity",
        "more than five times as wide as the gap",
        lambda: min(width(0.71, 23), width(0.76, 23)) > 5 * (0.76 - 0.71),
    ),
    (
        "01_scarcity",
        "With 23 positives an AUC below two thirds says nothing yet",
        lambda: abs(excludes(0.5, 23) - 2 / 3) < 0.01,
    ),
    (
        "02_data_and_augmentation",
        "a granuloma of 5 mm is three pixels",
        lambda: round(5 / 430 * 256) == 3,
    ),
    (
        "02_data_and_augmentation",
        "the phantom's departments tilt by 1 or 2 degrees",
        lambda: sorted(round(h.rotation) for h in HOSPITALS.values()) == [1, 2],
    ),
    (
        "02_data_and_augmentation",
        "make itself heard in one of 49 cells",
        lambda: (224 // 32) ** 2 == 49,
    ),
]


@pytest.mark.parametrize(("stem", "sentence", "holds"), SENTENCES, ids=[s[1] for s in SENTENCES])
def test_sentence_holds(stem, sentence, holds):
    assert sentence in one_line(prose(stem)), "the chapter no longer says so: change this test"
    assert holds()
