"""The page: everything gathered, one template filled, one file written."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from scxr.errors import InputError
from scxr.evaluate import Evaluation
from scxr.report import facts, numbers, summary, tables
from scxr.report.curves import curves
from scxr.report.examples import examples
from scxr.report.labels import TARGETS, labels_needed
from scxr.report.pictures import legend
from scxr.runs import replacing

EXPLAINED = {"probe": "linear probes on frozen features", "finetune": "fine-tuned networks"}


def write_report(
    evaluation: Evaluation, path: str | Path, *, command: str = "", images: int = 3
) -> Path:
    """Write an evaluation as one HTML page that needs nothing else: no network, no script.

    Identifiers of patients are not in it. Pictures of them are, unless `images` is 0.

    Args:
        path: file to write, replaced in one step; its folder is made.
        command: what was typed, to be quoted.
        images: radiographs to show for each of a few findings, with Grad-CAM.

    Returns:
        The path.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(path)
    html = render(evaluation, command=command, images=images)
    try:
        with replacing(path) as temporary:
            temporary.write_text(html, encoding="utf-8")
    except OSError as error:
        raise InputError(f"The report cannot be written to {path}: {error}.") from error
    return path


def render(
    evaluation: Evaluation,
    *,
    command: str = "",
    images: int = 3,
    now: datetime | None = None,
) -> str:
    """The page as text; arguments as in `write_report`, `now` for the time that it states."""
    compared, why_not = _compared(evaluation)
    maps = examples(evaluation, images)
    labels = labels_needed(evaluation)
    means = tables.mean_table(evaluation, labels.fits)
    environment = Environment(
        loader=PackageLoader("scxr.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        title=f"Few-shot evaluation on {evaluation.store.path.name}",
        made=f"{now or datetime.now().astimezone():%d %B %Y, %H:%M %Z}".strip(),
        short=summary.in_short(evaluation, compared, means),
        means=means,
        results=tables.result_table(evaluation),
        curves=curves(evaluation),
        inits=legend(list(evaluation.encoders)),
        fitted=legend(list(labels.fits)),
        comparison=None if compared is None else tables.comparison_table(evaluation, compared),
        baseline=None if compared is None else compared["baseline"].iloc[0],
        test=None if compared is None else facts.TESTS[compared["test"].iloc[0]],
        why_not=why_not,
        labels=labels,
        targets=TARGETS,
        maps=maps,
        explained=EXPLAINED[evaluation.mode],
        store=facts.store_facts(evaluation),
        counts=facts.finding_counts(evaluation).to_dict("records"),
        runs=[facts.run_facts(run, evaluation.store) for run in evaluation.runs.values()],
        baselines=facts.baseline_facts(evaluation),
        protocol=facts.protocol_facts(evaluation),
        versions=facts.version_facts(),
        command=command,
        phantom=evaluation.store.source.get("kind") == "phantom",
        limits=summary.limits(evaluation, bool(maps.shown)),
        listed=numbers.listed,
    )


def _compared(evaluation: Evaluation) -> tuple[pd.DataFrame | None, str]:
    """Paired differences to the best baseline, or why there are none."""
    try:
        return evaluation.comparison(), ""
    except InputError as error:
        return None, str(error)
