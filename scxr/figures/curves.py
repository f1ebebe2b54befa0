"""Figures made of numbers: few-shot curves, collapse, spectra, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scxr.errors import InputError
from scxr.figures.style import INK, drawn, legend, looks_of, panels, require

if TYPE_CHECKING:
    from scxr.evaluate.scaling import ScalingFit

COLLAPSE_MEASURES = {
    "std": "std of features",
    "mean_std": "std of features",
    "std_normalised": "std of unit features",
    "mean_cosine": "mean cosine",
    "effective_rank": "effective rank",
    "rankme": "RankMe",
}
LOCALISATION_MEASURES = {
    "hit": "peak inside",
    "energy_inside": "energy inside",
    "iou_otsu": "IoU after Otsu",
}


@drawn
def fewshot_curves(
    table: pd.DataFrame, *, findings: Sequence[str] | None = None, columns: int = 4
) -> Figure:
    """AUC against shots, one line an init; a panel for the mean and one for every finding.

    Args:
        table: with init, finding, shots, auc_mean, ci_low, ci_high (`evaluate_probe`).
        findings: which to give a panel; all when None, none when empty.

    The bands are the table's intervals; the mean over findings has none, because findings share
    patients. Where the table has `auc_step`, a panel says how finely its AUCs can differ at all.
    """
    require(table, "init", "finding", "shots", "auc_mean", "ci_low", "ci_high")
    known = list(dict.fromkeys(table["finding"]))
    chosen = known if findings is None else [name for name in findings if name in known]
    shown = ["mean over findings", *chosen] if len(known) > 1 or not chosen else chosen
    figure, axes = panels(len(shown), columns, 2.9, 2.5)
    looks = looks_of(list(dict.fromkeys(table["init"])))
    for axis, panel in zip(axes, shown, strict=True):
        part = table if panel == "mean over findings" else table[table["finding"] == panel]
        for init, look in looks.items():
            lines = part[part["init"] == init].groupby("shots")
            mean = lines["auc_mean"].mean()
            axis.plot(mean.index, mean, label=init, **look)
            if panel != "mean over findings":
                band = lines[["ci_low", "ci_high"]].first()
                colour = look["color"]
                axis.fill_between(
                    band.index, band["ci_low"], band["ci_high"], color=colour, alpha=0.15, lw=0
                )
        axis.axhline(0.5, color=INK, lw=1, ls=":")
        if "auc_step" in part and panel != "mean over findings":
            step = _step(part["auc_step"].max())
            axis.text(0.98, 0.03, step, transform=axis.transAxes, ha="right", fontsize=8)
        shots = sorted(table["shots"].unique())
        axis.set_xscale("log")
        axis.set_xticks(shots, [f"{n:g}" for n in shots])
        axis.minorticks_off()
        axis.set_title(panel, parse_math=False)
        axis.set(xlabel="shots", ylabel="AUC")
    legend(figure, axes[0])
    return figure


@drawn
def published_curves(averages: pd.DataFrame) -> Figure:
    """The series' mean AUC against shots: a panel a mode and method (`published.averages`)."""
    require(averages, "mode", "method", "shots", "ssl", "imagenet", "random")
    groups = list(averages.groupby(["method", "mode"], sort=False))
    figure, axes = panels(len(groups), 3, 2.9, 2.5)
    looks = looks_of(["ssl", "imagenet", "random"])
    for axis, ((method, mode), part) in zip(axes, groups, strict=True):
        for init, look in looks.items():
            axis.plot(part["shots"], part[init], label=init, **look)
        shots = sorted(part["shots"].unique())
        axis.set_xscale("log")
        axis.set_xticks(shots, [f"{n:g}" for n in shots])
        axis.minorticks_off()
        axis.set(title=f"{method}, {mode}", xlabel="shots", ylabel="mean AUC")
    # The panels are there to be compared, so they have one scale.
    low, high = zip(*(axis.get_ylim() for axis in axes), strict=True)
    for axis in axes:
        axis.set_ylim(min(low), max(high))
    legend(figure, axes[0])
    return figure


@drawn
def scaling_curve(
    fits: ScalingFit | Sequence[ScalingFit], *, target: float | None = None
) -> Figure:
    """AUC against labelled images a class: points with intervals, fitted curve, band.

    Args:
        fits: one of `scxr.evaluate.scaling.fit_scaling`, or one an init. Beyond the shots that
            were tried a curve is dashed; it ends where its answers end (`ScalingFit.reach`).
        target: an AUC to mark with a line.
    """
    fits = list(fits) if isinstance(fits, Sequence) else [fits]
    if not fits:
        raise InputError("There are no fits to draw.")
    figure, (axis,) = panels(1, 1, 6.0, 3.6)
    names = [fit.init for fit in fits]
    if len(set(names)) < len(names):
        names = [f"{fit.init}, {fit.finding}" for fit in fits]
    for fit, name, look in zip(fits, names, looks_of(range(len(fits))).values(), strict=True):
        errors = np.stack([fit.aucs - fit.ci_low, fit.ci_high - fit.aucs])
        axis.errorbar(
            fit.shots, fit.aucs, yerr=np.clip(errors, 0, None), ls="none", label=name, **look
        )
        most = fit.shots.max()
        for start, end, dash in ((fit.shots.min(), most, "-"), (most, fit.reach, "--")):
            line = fit.predict(np.geomspace(start, end, 60))
            axis.plot(line["shots"], line["auc"], ls=dash, color=look["color"])
            band = (line["shots"], line["ci_low"], line["ci_high"])
            axis.fill_between(*band, color=look["color"], alpha=0.15 if dash == "-" else 0.07, lw=0)
    if target is not None:
        axis.axhline(target, color=INK, lw=1, ls=":")
    shots = sorted({float(n) for fit in fits for n in (*fit.shots, fit.reach)})
    axis.set_xscale("log")
    axis.set_xticks(shots, [f"{n:g}" for n in shots])
    axis.minorticks_off()
    axis.set_title(fits[0].finding, parse_math=False)
    axis.set(xlabel="labelled images a class", ylabel="AUC")
    legend(figure, axis)
    return figure


@drawn
def collapse_curves(
    logs: Mapping[str, pd.DataFrame], *, measures: Sequence[str] | None = None, x: str = "epoch"
) -> Figure:
    """A panel a collapse number, a line a run.

    Args:
        logs: name of the run -> `run.log("monitor")`, or a part of `published.collapse_logs`.
        measures: columns; those of `COLLAPSE_MEASURES` that all logs have, when None.
    """
    if not logs:
        raise InputError("There are no logs to draw.")
    shared = set.intersection(*(set(log.columns) for log in logs.values()))
    measures = measures or [name for name in COLLAPSE_MEASURES if name in shared]
    return _line_panels(logs, measures, x, COLLAPSE_MEASURES)


@drawn
def loss_curves(
    logs: Mapping[str, pd.DataFrame], *, terms: Sequence[str] = ("loss",), x: str = "step"
) -> Figure:
    """A panel a loss term, a line a run: name -> `run.log()`."""
    if not logs:
        raise InputError("There are no logs to draw.")
    return _line_panels(logs, terms, x, {}, marked=False)


def _line_panels(
    logs: Mapping[str, pd.DataFrame],
    measures: Sequence[str],
    x: str,
    labels: Mapping[str, str],
    *,
    marked: bool = True,
) -> Figure:
    for log in logs.values():
        require(log, x)
    absent = [name for name in measures if not any(name in log.columns for log in logs.values())]
    if absent or not measures:
        raise InputError(f"No log has {', '.join(absent) or 'anything to draw'}.")
    figure, axes = panels(len(measures), 5 if len(measures) == 5 else 4, 2.9, 2.5)
    looks = looks_of(list(logs))
    for axis, name in zip(axes, measures, strict=True):
        for run, log in logs.items():
            if name in log.columns:
                look = looks[run] if marked else {"color": looks[run]["color"]}
                axis.plot(log[x], log[name], label=run, **look)
        axis.set(title=labels.get(name, name), xlabel=x)
    legend(figure, axes[0])
    return figure


@drawn
def spectrum(spectra: Mapping[str, np.ndarray], *, relative: bool = True) -> Figure:
    """Singular values, largest first, on a logarithmic axis: name -> (k,).

    Args:
        relative: divide by the largest.
    """
    if not spectra:
        raise InputError("There are no spectra to draw.")
    figure, (axis,) = panels(1, 1, 5.2, 3.2)
    for (name, look), values in zip(looks_of(list(spectra)).items(), spectra.values(), strict=True):
        values = np.asarray(values, dtype=float)
        shown = values / values.max() if relative and values.max() > 0 else values
        # Below this a singular value is rounding, and would take up most of the axis.
        shown = np.where(shown > 1e-7 * shown.max(), shown, np.nan)
        axis.plot(np.arange(1, len(shown) + 1), shown, label=name, color=look["color"])
    axis.set_yscale("log")
    label = "singular value / largest" if relative else "singular value"
    axis.set(xlabel="component", ylabel=label)
    legend(figure, axis)
    return figure


@drawn
def intervals(
    table: pd.DataFrame,
    *,
    value: str = "auc_mean",
    low: str = "ci_low",
    high: str = "ci_high",
    rows: str = "finding",
    hue: str = "init",
    reference: float | None = 0.5,
    label: str = "AUC",
) -> Figure:
    """Points with intervals: one line a `rows`, one point a `hue`.

    Fits `summarise` at one shot count (the AUC step stands below a row's name), `compare`
    (value="difference", reference=0), and `localisation_table` (value="hit", low="hit_low",
    high="hit_high").
    """
    require(table, value, low, high, rows, hue)
    names = list(dict.fromkeys(table[rows]))
    labels = names
    if "auc_step" in table and value == "auc_mean":
        steps = table.groupby(rows)["auc_step"].max()
        labels = [f"{name}\n{_step(steps[name])}" for name in names]
    looks = looks_of(list(dict.fromkeys(table[hue])))
    figure, (axis,) = panels(1, 1, 6.0, 0.8 + 0.16 * len(names) * (1 + len(looks)))
    for offset, (name, look) in enumerate(looks.items()):
        part = table[table[hue] == name]
        y = [names.index(row) + 0.7 * ((offset + 0.5) / len(looks) - 0.5) for row in part[rows]]
        below, above = part[value] - part[low], part[high] - part[value]
        axis.errorbar(
            part[value],
            y,
            xerr=np.clip(np.stack([below, above]), 0, None),
            ls="none",
            label=name,
            elinewidth=1.4,
            **look,
        )
    if reference is not None:
        axis.axvline(reference, color=INK, lw=1, ls=":")
    axis.set_yticks(range(len(names)), labels, parse_math=False)
    axis.invert_yaxis()
    axis.set(xlabel=label)
    legend(figure, axis)
    return figure


def localisation(table: pd.DataFrame, *, measure: str = "energy_inside") -> Figure:
    """Where the maps lie, finding by finding and init by init (`localisation_table`)."""
    if measure not in LOCALISATION_MEASURES:
        known = ", ".join(LOCALISATION_MEASURES)
        raise InputError(f"Unknown measure {measure!r}: choose from {known}.")
    return intervals(
        table,
        value=measure,
        low=f"{measure}_low",
        high=f"{measure}_high",
        reference=None,
        label=LOCALISATION_MEASURES[measure],
    )


@drawn
def distributions(values: Mapping[str, np.ndarray], *, label: str, bins: int = 64) -> Figure:
    """Histograms laid over each other, each scaled to an area of 1: name -> numbers."""
    if not values:
        raise InputError("There is nothing to draw.")
    figure, (axis,) = panels(1, 1, 5.2, 3.0)
    everything = np.concatenate([np.ravel(v) for v in values.values()])
    edges = np.linspace(everything.min(), everything.max(), bins + 1)
    for (name, look), part in zip(looks_of(list(values)).items(), values.values(), strict=True):
        heights, _ = np.histogram(np.ravel(part), bins=edges, density=True)
        axis.stairs(heights, edges, label=name, color=look["color"], lw=1.8)
    axis.set(xlabel=label, ylabel="density")
    legend(figure, axis)
    return figure


def _step(step: float) -> str:
    """Three decimals, but never "0.000": with many images an AUC moves in far smaller steps."""
    return f"step {step:.3f}" if step >= 0.0005 else f"step {step:.1g}"
