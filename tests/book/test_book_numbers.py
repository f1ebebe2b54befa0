"""What the prose of chapters 1 to 3 says in numbers was computed, or has a source.

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

from scxr import published
from scxr.data.exclusions import FURTHER_EXCLUSIONS, SERIES_EXCLUSIONS
from scxr.data.findings import tally
from scxr.data.label_tables import read_label_table
from scxr.data.phantom import HOSPITALS, generate
from scxr.data.protocols import SERIES_FOLDERS, cohort_findings, describe_negatives
from scxr.evaluate.cells import Cell
from scxr.evaluate.comparison import paired_difference
from scxr.evaluate.simulation import Design
from scxr.evaluate.statistics import score_interval
from scxr.memory.grid import shipped_grid, total
from scxr.methods.moco import MoCo
from scxr.methods.regularisation import RegularisedSettings
from scxr.observer import IMAGES
from scxr.published import collapse_logs

MOCO = MoCo.presets
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
    "03_contrast_and_collapse": {
        "100": "SCARCE-CXR, part 3: the epoch from which the loss fell so smoothly",
        "112,120": "Wang et al. 2017, arXiv:1705.02315",
        "1.28": "He et al. 2019, arXiv:1911.05722: ImageNet, million images",
        "1.8": "1 plus the series' brightness jitter of 0.8",
        "12": "the target of 12.0 in the cell below",
        "150": "the target of 150.0 in the cell below",
        "35": "a second seed, not part of the chapter",
        "51": "a second seed, not part of the chapter",
        "500": "an estimate, said to be one; book/run-times.csv has what was measured",
        "180": "the same estimate",
        "438.8": "results/reference.md of the series' code, as published.collapse_logs has it",
        "34": "held below",
        "20": "held below",
        "8.32": "held below",
        "4097": "held below",
        "8.318": "held below",
    },
    "04_distillation_and_masking": {
        "3.5": "an estimate, said to be one",
        "65": "65,536: SCARCE-CXR, part 4, and facebookresearch/dino",
        "536": "65,536: SCARCE-CXR, part 4, and facebookresearch/dino",
        "2.77": "ln 16, held below",
        "0.525": "book/preset-study.csv, held below",
        "0.543": "book/preset-study.csv, held below",
        "0.551": "book/preset-study.csv, held below",
        "0.505": "book/preset-study.csv, held below",
        "0.506": "book/preset-study.csv, held below",
        "6.63": "book/presets.md, held below",
        "224": "SCARCE-CXR, part 4: the size of its pictures",
        "0.03": "SCARCE-CXR, part 4: MoCo's learning rate at batch 256",
        "121": "NVIDIA's data sheet of the L4: half of 242",
        "242": "NVIDIA's data sheet of the L4, bf16 with sparsity",
        "500": "held below",
        "530": "book/benchmarks.md, held below",
        "3,471": "book/benchmarks.md, held below",
        "4096": "a question's own supposition",
        "9": "an exercise's own choice",
    },
    "06_analysis": {
        "45": "size of torchvision's ResNet-18, MB, as in chapter 5",
        "105": "seconds of processor time of one execution, from which two minutes are estimated",
        "100,000": "a reader's supposed archive",
        "112,120": "Wang et al. 2017, arXiv:1705.02315",
        "4,000": "scxr.course.pretraining_data, the phantom's default",
        "5,000": "a reader's supposed archive",
        "64": "image_size of the quick presets",
        "24": "an L4's memory, GB",
        "106": "scxr/published_tables/training_cost.csv, printed as 106.0",
        "0.033": "book/presets.md: the gains of BarlowTwins' three seeds, 0.095 - 0.062",
        "0.082": "book/preset-study.csv: MoCo's seed 0 at 20 shots, 0.653 and on two threads 0.571",
        "59": "60 - 1",
        "224": "SCARCE-CXR, part 6: the size of its pictures, pixels",
        "0.004": "0.05 / 12",
        "0.71": "a question's own supposition",
        "0.74": "a question's own supposition",
        "55": "a question's own supposition",
    },
    "05_probing_and_finetuning": {
        "54": "the zip files of PadChest, bimcv.cipf.es; SCARCE-CXR, part 6, says so too",
        "74": "findings in the log of the series' public code, see scxr.published",
        "0.99": "Packhäuser et al. 2022, arXiv:2103.08562",
        "0.9375": "15/16",
        "20,000": "scxr.evaluate.comparison.SWAPS",
        "230": "an estimate, said to be one; book/run-times.csv has what was measured",
        "512": "scxr.evaluate.inits.calibrated, its default",
        "0.6": "the lower end of 0.58, rounded",
        "0.81": "a question's own supposition",
        "0.74": "a question's own supposition",
        "0.66": "a question's own supposition",
        "0.70": "a question's own supposition",
        "0.62": "a question's own supposition",
        "0.77": "a question's own supposition",
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


def memory_of_barlow(batch: int, precision: str, checkpointing: bool) -> float:
    counted = shipped_grid()
    [row] = [
        row
        for _, row in counted[(counted["method"] == "barlow") & (counted["size"] == 224)].iterrows()
        if (row["backbone"], row["precision"], row["checkpointing"])
        == ("resnet50", precision, checkpointing)
    ]
    return total(row, batch) / 1e9


def passes(batch: int, every: int) -> float:
    """What a rank control costs: forward passes of a look, over those of the steps between."""
    both_views_there_and_back = 2 * 3 * batch
    return IMAGES / (every * both_views_there_and_back)


def at_20_shots(method: str, backbone: str = "") -> list[float]:
    """The preset study's mean AUC at 20 shots, one a run, of one method and backbone."""
    study = pd.read_csv(CHAPTERS.parent / "book" / "preset-study.csv").fillna("")
    vit = study["settings"].str.contains("vit_tiny")
    return sorted(study[(study["method"] == method) & (vit == bool(backbone))]["20 shots"])


def on_page(name: str, *said: str) -> bool:
    page = (CHAPTERS.parent / "book" / f"{name}.md").read_text(encoding="utf-8")
    return all(number in page for number in said)


def views_a_second(method: str) -> float:
    """Two views an image at the speed of the series' final run."""
    row = published.training_cost().set_index("method").loc[method]
    return 2 * 112_120 * row["epochs"] / (row["final_run_hours"] * 3600)


def lead(method: str, mode: str, shots: int, versus: str) -> float:
    """The pretrained start's published mean AUC minus the baseline's."""
    table = published.averages().set_index(["mode", "method", "shots"])
    row = table.loc[(mode, method, shots)]
    return row["ssl"] - row[versus]


def probes_of(init: str) -> pd.DataFrame:
    """Published probe AUCs of a start, a column for each method that it stood beside."""
    table = published.fewshot().query("mode == 'probe' and init == @init")
    return table.pivot(index=["finding", "shots"], columns="method", values="auc_mean")


def worth_of_one_label() -> list[float]:
    """Labels with which ImageNet's published probe is as good as a pretrained one with one."""
    table = published.averages().query("mode == 'probe'")
    worth = []
    for _, part in table.groupby("method"):
        one = part.loc[part["shots"] == 1, "ssl"].item()
        worth.append(np.exp(np.interp(one, part["imagenet"], np.log(part["shots"]))))
    return worth


def repeated() -> pd.Series:
    """How far the ImageNet start's two fine-tuning campaigns of one recipe lie apart."""
    table = published.fewshot().query("mode == 'finetune' and init == 'imagenet'")
    wide = table.pivot(index=["finding", "shots"], columns="method", values="auc_mean")
    return (wide["moco-v2"] - wide["barlow"]).abs()


def best_at_50(finding: str) -> float:
    return published.fewshot().query("finding == @finding and shots == 50")["auc_mean"].max()


def cost(method: str) -> float:
    return published.training_cost().set_index("method")["cost_usd"][method]


def padchest_of_the_series() -> pd.DataFrame:
    table = read_label_table("padchest")
    return table[table["folder"].isin(SERIES_FOLDERS)].reset_index(drop=True)


def excluded_among_negatives() -> float:
    kinds = describe_negatives(padchest_of_the_series(), "series").set_index("kind")["share"]
    return kinds[kinds.index.isin(list(SERIES_EXCLUSIONS))].sum()


def false_alarms(by_patient: bool, patients: int, experiments: int = 200) -> float:
    design, found = Design(patients=patients, images=2.5, auc=0.7), 0
    for number in range(experiments):
        cells = design.cells(number)
        if by_patient:
            found += paired_difference(*cells, repeats=500)["p"] < 0.05
            continue
        table = design.draw(number)
        table = table.assign(patient=table["row"].astype(str))
        first, second = (Cell(part) for _, part in table.groupby("init"))
        found += paired_difference(first, second, test="delong")["p"] < 0.05
    return found / experiments


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
    (
        "03_contrast_and_collapse",
        "one query in six is told to push away its own radiograph",
        lambda: abs((65_536 / 112_120) ** 2 / 2 - 1 / 6) < 0.01,
    ),
    (
        "03_contrast_and_collapse",
        "the same queue is a twentieth of the pool",
        lambda: abs(MOCO["full"].queue_size / 1.28e6 - 1 / 20) < 0.002,
    ),
    (
        "03_contrast_and_collapse",
        "they are thrown out after two steps",
        lambda: MOCO["quick"].queue_size / (2 * MOCO["quick"].batch_size) == 2,
    ),
    (
        "03_contrast_and_collapse",
        "65,536 keys of 128 numbers: 34 MB",
        lambda: round(MOCO["full"].queue_size * MOCO["full"].projection * 4 / 1e6) == 34,
    ),
    (
        "03_contrast_and_collapse",
        r"$\ln(4097) = 8.318$",
        lambda: round(float(np.log1p(4096)), 3) == 8.318,
    ),
    (
        "03_contrast_and_collapse",
        "after its first epoch it was 438.8",
        lambda: collapse_logs().query("run == 'dino'")["effective_rank"].iloc[0] == 438.8,
    ),
    (
        "03_contrast_and_collapse",
        "not even in half precision",
        lambda: memory_of_barlow(256, "bf16-mixed", False) > 22,
    ),
    (
        "03_contrast_and_collapse",
        "with checkpointing it fits at 256 in either precision, and in bfloat16 at 512",
        lambda: (
            memory_of_barlow(256, "32-true", True) < 22
            and memory_of_barlow(512, "bf16-mixed", True)
            < 22
            < memory_of_barlow(512, "32-true", True)
        ),
    ),
    (
        "03_contrast_and_collapse",
        "that is a third of the training here, and a sixtieth at the default of every 20 steps and "
        "batches of 128",
        lambda: (
            passes(64, 2) == 1 / 3
            and passes(128, RegularisedSettings(steps=1).control_every) == 1 / 60
        ),
    ),
    (
        "04_distillation_and_masking",
        "the mutual information approaches $\\ln 16 = 2.77$",
        lambda: round(np.log(16), 2) == 2.77,
    ),
    (
        "04_distillation_and_masking",
        "an AUC of 0.525 at 20 shots, where random ones have 0.543 to 0.551",
        lambda: (at_20_shots("dino"), at_20_shots("random")) == ([0.525], [0.543, 0.546, 0.551]),
    ),
    (
        "04_distillation_and_masking",
        "reaches 0.505 beside 0.506 of its own random network",
        lambda: (at_20_shots("dino", "vit"), at_20_shots("random", "vit")) == ([0.505], [0.506]),
    ),
    (
        "04_distillation_and_masking",
        "brings the loss down to 6.63",
        lambda: on_page("presets", "loss 6.63"),
    ),
    (
        "04_distillation_and_masking",
        "At the series' speed MoCo needs under 500 views a second",
        lambda: 400 < views_a_second("MoCo v2") < 500,
    ),
    (
        "04_distillation_and_masking",
        "two workers with Pillow made 530 on the cores where we measured",
        lambda: on_page("benchmarks", "| 530 |", "**3,471**"),
    ),
    (
        "06_analysis",
        "it holds in about three cells of four against ImageNet",
        lambda: abs((published.margins("imagenet")["difference"] > 0).mean() - 0.75) < 0.03,
    ),
    (
        "06_analysis",
        "two survive, both against random weights",
        lambda: (
            published.recomputed_t_tests().query("p_holm < 0.05")["versus"].tolist()
            == ["random", "random"]
        ),
    ),
    (
        "06_analysis",
        "The ImageNet rows are one and the same network",
        lambda: probes_of("imagenet").nunique(axis=1).eq(1).all(),
    ),
    (
        "06_analysis",
        "Its random weights are another network, and a weaker one",
        lambda: probes_of("random").mean().idxmin() == "barlow",
    ),
    (
        "06_analysis",
        "(more up to ten labels, as much with twenty and fifty)",
        lambda: (
            all(
                lead("barlow", "probe", n, "random") > lead("moco-v2", "probe", n, "random")
                for n in (1, 5, 10)
            )
            and all(
                abs(lead("barlow", "probe", n, "random") - lead("moco-v2", "probe", n, "random"))
                < 0.005
                for n in (20, 50)
            )
        ),
    ),
    (
        "06_analysis",
        "A mean over ten trials still moves by about 0.03",
        lambda: abs(repeated().mean() - 0.03) < 0.005,
    ),
    (
        "06_analysis",
        "one label on pretrained features is worth about ten on ImageNet's",
        lambda: all(7 < labels < 13 for labels in worth_of_one_label()),
    ),
    (
        "06_analysis",
        "with ten labels MoCo v2 is where ImageNet does not get with fifty",
        lambda: (
            lead("moco-v2", "probe", 10, "imagenet") > 0
            and published.averages()
            .query("mode == 'probe' and method == 'moco-v2' and shots == 10")["ssl"]
            .item()
            > published.averages().query("mode == 'probe'")["imagenet"].max()
        ),
    ),
    (
        "06_analysis",
        "cost an eighth of MoCo v2 on a ResNet-50",
        lambda: abs(cost("BarlowTwins") / cost("MoCo v2") - 1 / 8) < 0.02,
    ),
    (
        "06_analysis",
        "brought three quarters of its probe's lead over ImageNet",
        lambda: (
            abs(
                lead("barlow", "probe", 50, "imagenet") / lead("moco-v2", "probe", 50, "imagenet")
                - 0.75
            )
            < 0.03
        ),
    ),
    (
        "06_analysis",
        "granuloma and callus next to a coin at 50 shots, whatever the start",
        lambda: max(map(best_at_50, ("calcified granuloma", "callus rib fracture"))) < 0.58,
    ),
    (
        "06_analysis",
        "of two hundred questions about a single finding none is answered beyond doubt",
        lambda: any(
            "0 of 200" in output.get("data", {}).get("text/plain", "")
            for cell in chapter("06_analysis").cells
            for output in cell.get("outputs", [])
        ),
    ),
    (
        "05_probing_and_finetuning",
        "74 findings, 148 totals",
        lambda: published.finding_counts().set_index("finding").shape == (74, 2),
    ),
    (
        "05_probing_and_finetuning",
        "They are 18 archives where the text says 17",
        lambda: len(SERIES_FOLDERS) == 18,
    ),
    (
        "05_probing_and_finetuning",
        "A third of the series' negatives show a finding that the protocol chose not to speak",
        lambda: abs(excluded_among_negatives() - 1 / 3) < 0.02,
    ),
    (
        "05_probing_and_finetuning",
        "more than a dozen further findings with it",
        lambda: (
            len(cohort_findings(read_label_table("padchest"), "sound"))
            - len(cohort_findings(padchest_of_the_series(), "sound"))
            > 12
        ),
    ),
    (
        "05_probing_and_finetuning",
        "it moves in steps of 1/16 and has no value between 0.9375 and 1",
        lambda: 1 - 1 / 16 == 0.9375,
    ),
    (
        "05_probing_and_finetuning",
        "1.000 is compatible with 0.6",
        lambda: score_interval(1.0, 4, 4)[0] < 0.6,
    ),
    (
        "05_probing_and_finetuning",
        "Counting images makes false alarms more frequent than the test promises; swapping "
        "patients does not",
        lambda: false_alarms(False, 6) > 0.07 > 0.05 >= false_alarms(True, 6),
    ),
]


@pytest.mark.parametrize(("stem", "sentence", "holds"), SENTENCES, ids=[s[1] for s in SENTENCES])
def test_sentence_holds(stem, sentence, holds):
    assert sentence in one_line(prose(stem)), "the chapter no longer says so: change this test"
    assert holds()
