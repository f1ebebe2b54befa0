"""Results and paired comparison, arranged as a page shows them: one block a finding."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from scxr.evaluate import Evaluation
from scxr.evaluate.scaling import ScalingFit
from scxr.report import numbers

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Value:
    """What stands in one place of a table: the number, and what qualifies it."""

    number: str
    details: tuple[str, ...] = ()
    mark: str = ""
    """"better", "worse", or nothing."""


@dataclass(frozen=True)
class Line:
    """One init over all shots."""

    init: str
    is_run: bool
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Block:
    """One finding, with what is the same for all its lines."""

    finding: str
    facts: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """Blocks of lines with a column a shot count; `csv` is a data address of the exact numbers."""

    shots: tuple[int, ...]
    blocks: tuple[Block, ...]
    csv: str = ""


def result_table(evaluation: Evaluation) -> Table:
    """Every finding: mean AUC, sd over trials, interval; with the images that it rests on."""
    results = evaluation.results()
    blocks = []
    for finding, part in results.groupby("finding", sort=False):
        decimals = numbers.digits(part["auc_step"].max())
        lines = _lines(evaluation, part, lambda row, d=decimals: _result(row, d))
        blocks.append(Block(str(finding), _facts(part), lines))
    return Table(_shots(results), tuple(blocks), _csv(results))


def mean_table(evaluation: Evaluation, fits: Mapping[str, ScalingFit]) -> Table | None:
    """The mean over findings, or None where there is one finding.

    Findings share patients, so the interval of a mean is not to be had from theirs; a fit has
    resampled the patients for all findings at once.
    """
    results = evaluation.results()
    count = results["finding"].nunique()
    if count < 2:
        return None
    decimals = numbers.digits(results["auc_step"].mean() / count)
    means = results.groupby(["init", "shots"], sort=False)["auc_mean"].mean().reset_index()
    lines = _lines(evaluation, means, lambda row: _mean(row, fits.get(row.init), decimals))
    return Table(_shots(results), (Block("", (), lines),))


def comparison_table(evaluation: Evaluation, comparison: pd.DataFrame) -> Table:
    """Paired differences: interval, and the p-value after Holm's correction."""
    steps = evaluation.results().groupby("finding")["auc_step"].max()
    blocks = []
    for finding, part in comparison.groupby("finding", sort=False):
        decimals = numbers.digits(steps[finding])
        lines = _lines(evaluation, part, lambda row, d=decimals: _difference(row, d))
        blocks.append(Block(str(finding), (), lines))
    return Table(_shots(comparison), tuple(blocks), _csv(comparison))


def verdicts(comparison: pd.DataFrame) -> tuple[int, int]:
    """How many comparisons favour the init, and how many the baseline, after correction."""
    clear = comparison[comparison["p_holm"] < SIGNIFICANT]
    return int((clear["difference"] > 0).sum()), int((clear["difference"] < 0).sum())


def _shots(table: pd.DataFrame) -> tuple[int, ...]:
    return tuple(sorted(int(n) for n in table["shots"].unique()))


def _lines(evaluation: Evaluation, table: pd.DataFrame, shown) -> tuple[Line, ...]:
    lines = []
    for init in evaluation.encoders:
        part = {row.shots: row for row in table[table["init"] == init].itertuples()}
        if part:
            values = tuple(shown(part[n]) if n in part else Value("–") for n in _shots(table))
            lines.append(Line(init, init in evaluation.runs, values))
    return tuple(lines)


def _mean(row, fit: ScalingFit | None, decimals: int) -> Value:
    value = numbers.plain(row.auc_mean, decimals)
    if fit is None or row.shots not in fit.shots:
        return Value(value)
    at = list(fit.shots).index(row.shots)
    return Value(value, (numbers.span(fit.ci_low[at], fit.ci_high[at], decimals),))


def _result(row, decimals: int) -> Value:
    details = [numbers.span(row.ci_low, row.ci_high, decimals)]
    if row.trials > 1:
        details.append(f"sd {numbers.spread(row.auc_sd, decimals)}")
    if row.positives < row.shots:
        details.append(f"{row.positives} shots")
    return Value(numbers.plain(row.auc_mean, decimals), tuple(details))


def _difference(row, decimals: int) -> Value:
    mark = ""
    if row.p_holm < SIGNIFICANT:
        mark = "better" if row.difference > 0 else "worse"
    details = (
        numbers.span(row.ci_low, row.ci_high, decimals),
        f"p {numbers.p_value(row.p_holm)}",
    )
    return Value(numbers.signed(row.difference, decimals), details, mark)


def _facts(part: pd.DataFrame) -> tuple[str, ...]:
    """What a finding's results rest on, the notes of its rows included, each once."""
    row = part.iloc[0]
    patients = f"{row['val_patients']} patient" + ("s" if row["val_patients"] > 1 else "")
    facts = [
        f"{row['positives']} images to train on",
        f"{row['val_positives']} to validate on, of {patients}",
        f"AUC step {numbers.step_size(row['auc_step'])}",
    ]
    notes = [note for text in part["note"] for note in text.split("; ") if note]
    return tuple(facts + list(dict.fromkeys(notes)))


def _csv(table: pd.DataFrame) -> str:
    text = base64.b64encode(table.to_csv(index=False).encode()).decode()
    return f"data:text/csv;base64,{text}"
