"""What the page says first, and what it warns of last: sentences with the numbers in them."""

from __future__ import annotations

import pandas as pd

from scxr.data.episodes import OTHER
from scxr.evaluate import Evaluation
from scxr.evaluate.results import FEW_PATIENTS
from scxr.report import numbers
from scxr.report.labels import best_init
from scxr.report.tables import SIGNIFICANT, Table, verdicts


def in_short(
    evaluation: Evaluation, comparison: pd.DataFrame | None, means: Table | None
) -> list[str]:
    """The result in a few sentences; `means` has the intervals where there are several findings."""
    results = evaluation.results()
    count, most = len(evaluation.findings), int(results["shots"].max())
    top = results[results["shots"] == most].groupby("init", sort=False)["auc_mean"].mean()
    decimals = numbers.digits(results["auc_step"].mean() / count)
    best, rival = best_init(evaluation), evaluation.best_baseline()
    if means is None:
        row = results[(results["init"] == best) & (results["shots"] == most)].iloc[0]
        span = numbers.span(row["ci_low"], row["ci_high"], decimals)
        value = numbers.plain(top[best], decimals)
        what = f"an AUC of {value} (95 % interval {span}) for {evaluation.findings[0]}"
    else:
        what = f"a mean AUC of {_last(means, best)} over {count} findings"
    images = f"{most} labelled image{'s' if most > 1 else ''} a class"
    first = f"With {images}, {best} reaches {what}"
    if evaluation.runs and rival is not None:
        first += f"; the best baseline, {rival}, {numbers.plain(top[rival], decimals)}"
    sentences = [f"{first}. An AUC of 0.5 is a coin toss, 1 is perfect."]
    if not evaluation.runs:
        sentences.append("No pretrained run was given: these are baselines alone.")
    if comparison is not None:
        sentences.append(_compared(comparison))
    return sentences


def _last(means: Table, init: str) -> str:
    """The mean at the largest shot count, with its interval if there is one."""
    lines = {line.init: line for block in means.blocks for line in block.lines}
    last = lines[init].values[-1]
    return last.number + (f" (95 % interval {last.details[0]})" if last.details else "")


def _compared(comparison: pd.DataFrame) -> str:
    better, worse = verdicts(comparison)
    baseline, count = comparison["baseline"].iloc[0], len(comparison)
    tests = f"{count} paired comparison{'s' if count > 1 else ''} with {baseline}"
    if better == worse == 0:
        return f"None of the {tests} shows a difference that chance could not have made."
    return (
        f"Of {tests}, {better} favour the other init and {worse} favour {baseline} beyond what "
        f"chance would make (p < {SIGNIFICANT:g}, Holm's correction)."
    )


def limits(evaluation: Evaluation, pictures: bool) -> list[str]:
    """What a reader has to know before acting on any of the numbers."""
    phantom = evaluation.store.source.get("kind") == "phantom"
    told = [_patients(evaluation)]
    if phantom:
        told.append("The images are simulated. The numbers say nothing about patients.")
    told += [_pretrained(evaluation), _negatives(evaluation)]
    told += [
        "The intervals cover other patients and other draws of the labelled images. They do not "
        "cover another pretraining: each run has one seed here.",
        "All images come from this store. Another hospital, device or population can do better or "
        "worse, and only images from there can tell.",
        "Labels were taken as they are. Wrong labels lower the AUC, and labels that follow "
        "something else in the picture (a drain, a marker, the projection) raise it.",
        "Findings share patients and normal images, so they are not independent of each other.",
    ]
    if evaluation.runs and len(evaluation.baselines) > 1:
        told.append(
            "The best baseline was chosen on the very images it is compared on, which favours it."
        )
    if evaluation.settings["setting"] == "series":
        told.append(
            "The setting repeats a published protocol, slips included; it is there to reproduce, "
            "not to choose by."
        )
    if pictures:
        told.append(
            "Grad-CAM is coarse and shows what raised a score, not why, and not whether it should "
            "have."
        )
    return [sentence for sentence in told if sentence]


def _patients(evaluation: Evaluation) -> str:
    patients = evaluation.results().groupby("finding")["val_patients"].max()
    few = int((patients < FEW_PATIENTS).sum())
    if not few:
        return ""
    return (
        f"{few} of {len(patients)} findings rest on fewer than {FEW_PATIENTS} held-out patients; "
        f"the fewest are {int(patients.min())}. Single AUCs of these are hints at most."
    )


def _pretrained(evaluation: Evaluation) -> str:
    own = evaluation.store.fingerprint
    runs = evaluation.runs.items()
    same = [name for name, run in runs if run.config.get("data", {}).get("fingerprint") == own]
    if not same:
        return ""
    return (
        f"{numbers.listed(same)} saw these very images in pretraining, without labels, those of "
        "the held-out patients included; images from elsewhere may be harder."
    )


def _negatives(evaluation: Evaluation) -> str:
    against = "images without any of these findings"
    if evaluation.settings["negatives"] != OTHER:
        against = "normal images"
    return (
        f"Each finding is told from {against}, as many as have it. In a clinic findings are rare "
        "and mixed: an AUC is neither a sensitivity nor the chance that a marked image is ill."
    )
