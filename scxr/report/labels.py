"""How many labels do I need? The fitted curves, asked for a few AUCs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from scxr import figures
from scxr.errors import InputError
from scxr.evaluate import Evaluation
from scxr.evaluate.scaling import LabelsNeeded, ScalingFit, fit_scaling
from scxr.report import numbers
from scxr.report.pictures import Picture, drawing

TARGETS = (0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Curve:
    """One row: whose curve, what it needs for each of `TARGETS`, and the ceiling it tends to."""

    name: str
    needed: tuple[str, ...]
    ceiling: str
    note: str


@dataclass(frozen=True)
class Labels:
    """The answer; `reason` says why there is none.

    Attributes:
        init: whose curves `findings` and `sentences` are about: the best run.
        sentences: its answer in words, one an AUC.
        inits: a row an init, over all findings.
        findings: a row a finding, where there are several.
        fits: init -> its curve over all findings.
    """

    reason: str = ""
    init: str = ""
    sentences: tuple[str, ...] = ()
    inits: tuple[Curve, ...] = ()
    findings: tuple[Curve, ...] = ()
    picture: Picture | None = None
    fits: dict[str, ScalingFit] = field(default_factory=dict)


def labels_needed(evaluation: Evaluation) -> Labels:
    """Fits for every init over all findings, and for the best run finding by finding."""
    best = best_init(evaluation)
    scores = evaluation.scores
    fits, reasons = [], []
    for init in evaluation.encoders:
        try:
            fits.append(fit_scaling(scores, init=init))
        except InputError as error:
            reasons.append(str(error))
    if not fits:
        return Labels(reason=reasons[0])
    single = [] if len(evaluation.findings) == 1 else list(_by_finding(evaluation, best))
    asked = [fit for fit in fits if fit.init == best]
    return Labels(
        init=best,
        sentences=tuple(_sentences(asked[0])) if asked else (),
        inits=tuple(_curve(fit, fit.init) for fit in fits),
        findings=tuple(_curve(fit, fit.finding) for fit in single),
        picture=drawing(_text(fits), figures.scaling_curve, fits),
        fits={fit.init: fit for fit in fits},
    )


def best_init(evaluation: Evaluation) -> str:
    """The run, or without runs the init, with the highest mean AUC at the largest shot count."""
    results = evaluation.results()
    most = results[results["shots"] == results["shots"].max()]
    if evaluation.runs:
        most = most[most["init"].isin(list(evaluation.runs))]
    return str(most.groupby("init", sort=False)["auc_mean"].mean().idxmax())


def _sentences(fit: ScalingFit) -> Iterable[str]:
    """An answer for every target, but a flat curve says so once."""
    for auc in TARGETS:
        answer = fit.labels_needed(auc)
        yield answer.sentence
        if answer.verdict == "flat":
            return


def _by_finding(evaluation: Evaluation, init: str) -> Iterable[ScalingFit]:
    for finding in evaluation.findings:
        try:
            yield fit_scaling(evaluation.scores, init=init, finding=finding)
        except InputError:
            continue  # capped to fewer than three shot counts; the results' table says so


def _curve(fit: ScalingFit, name: str) -> Curve:
    needed = tuple(_needed(fit, fit.labels_needed(auc)) for auc in TARGETS)
    low, high = fit.ceiling_interval
    ceiling = f"{numbers.plain(fit.ceiling, 2)} ({numbers.span(low, high, 2)})"
    return Curve(name, needed, ceiling if fit.rising else "–", fit.note)


def _needed(fit: ScalingFit, answer: LabelsNeeded) -> str:
    beyond = f"more than {fit.reach:g}"
    if answer.verdict == "flat":
        return "flat curve"
    low, high = (f"{end:g}" if math.isfinite(end) else beyond for end in (answer.low, answer.high))
    span = low if low == high else f"{low} to {high}"
    if answer.verdict in ("measured", "extrapolated"):
        about = "about " if answer.verdict == "extrapolated" else ""
        return f"{about}{answer.shots:g} ({span})"
    return f"{beyond} ({span})" if span != beyond else beyond


def _text(fits: list[ScalingFit]) -> str:
    names = numbers.listed([fit.init for fit in fits])
    return f"AUC against labelled images a class, {fits[0].finding}: points and fits of {names}."
