"""Watch a representation collapse: the singular values of the features, epoch by epoch.

Reading: Jing et al. 2022, arXiv:2110.09348 (dimensional collapse); Garrido et al. 2023,
arXiv:2210.02885 (RankMe); Roy and Vetterli 2007 (effective rank).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import traitlets

from scxr.errors import InputError
from scxr.runs import Run
from scxr.widgets.base import CourseWidget, front_end, style
from scxr.widgets.packing import floats

METRICS = ("effective_rank", "rankme", "std", "std_normalised", "mean_cosine")
SPECTRA = {"spectrum": "centred", "spectrum_uncentred": "uncentred"}
MAX_RUNS = 6
MAX_ROWS = 60
MAX_VALUES = 128
MAX_LOSSES = 200


class SpectrumWidget(CourseWidget):
    """Choose runs, scrub through training: spectrum, ranks, spread, cosine and loss side by side.

    Args:
        runs: name -> a `Run`, or a frame with one row a measurement of the collapse monitor
            (`step`, `epoch` and any of `effective_rank`, `rankme`, `std`, `std_normalised`,
            `mean_cosine`, `loss`, `spectrum`, `spectrum_uncentred`). At most six.
        axis: "epoch" or "step".

    With a kernel, "Read again" reads the logs of runs that are still training.

    Raises:
        InputError: no run, too many, or one without a single measurement.
    """

    _esm = front_end("spectrum")
    _css = style()

    runs: traitlets.List = traitlets.List().tag(sync=True)
    spectra = traitlets.List(traitlets.Bytes()).tag(sync=True)
    chosen = traitlets.List(traitlets.Unicode()).tag(sync=True)
    axis = traitlets.Enum(["epoch", "step"], default_value="epoch").tag(sync=True)
    at = traitlets.Float().tag(sync=True)
    centred = traitlets.Bool(True).tag(sync=True)
    relative = traitlets.Bool(False).tag(sync=True)

    def __init__(self, runs: Mapping[str, Run | pd.DataFrame], *, axis: str = "epoch") -> None:
        if not 0 < len(runs) <= MAX_RUNS:
            raise InputError(f"Give between 1 and {MAX_RUNS} runs, not {len(runs)}.")
        self._sources = dict(runs)
        described, spectra = self._read()
        last = max(max(run[axis]) for run in described)
        super().__init__(
            runs=described, spectra=spectra, chosen=list(runs), axis=axis, at=float(last)
        )

    def _read(self) -> tuple[list[dict[str, Any]], list[bytes]]:
        pairs = [_describe_run(name, source) for name, source in self._sources.items()]
        return [run for run, _ in pairs], [values for _, values in pairs]

    def abilities(self) -> list[str]:
        return ["read"] if any(isinstance(s, Run) for s in self._sources.values()) else []

    def answer(self, content: dict[str, Any], buffers: list[Any]) -> tuple[dict, list[bytes]]:
        if content.get("type") != "read":
            return super().answer(content, buffers)
        described, spectra = self._read()
        with self.hold_sync():
            self.runs, self.spectra = described, spectra
            self.at = float(max(max(run[self.axis]) for run in described))
        return {"rows": sum(len(run["step"]) for run in described)}, []

    def describe(self) -> str:
        """First and last measurement of every run, in words."""
        parts = []
        for run in self.runs:
            known = [m for m in METRICS if run[m] is not None]
            numbers = (f"{m.replace('_', ' ')} {_change(run[m])}" for m in known)
            parts.append(
                f"{run['name']}, epoch {run['epoch'][0]:g} to {run['epoch'][-1]:g}: "
                + ", ".join(numbers)
                + "."
            )
        return "Collapse spectrum. " + " ".join(parts)


def _describe_run(name: str, source: Run | pd.DataFrame) -> tuple[dict[str, Any], bytes]:
    """One run as JSON, and its spectra as float32 (rows, centred then uncentred, values)."""
    if isinstance(source, Run):
        run_now = Run.open(source.path)  # a Run reads its log once; this one may have grown
        rows, train = run_now.log("monitor"), run_now.log("train")
    else:
        rows, train = source, source
    if len(rows) == 0 or not {"step", "epoch"} & set(rows.columns):
        raise InputError(
            f"{name!r} holds no measurement of the collapse monitor (with a step or an epoch)."
        )
    rows = rows.iloc[_spread(len(rows), MAX_ROWS)]
    run: dict[str, Any] = {"name": name, "epoch": _axis(rows, "epoch"), "step": _axis(rows, "step")}
    run |= {m: _series(rows[m]) if m in rows.columns else None for m in METRICS}
    run["loss"] = _losses(train)
    run["share"] = {}
    kept = [c for c in SPECTRA if c in rows.columns and rows[c].notna().all()]
    if not kept:
        return run | {"index": [], "dimensions": 0, "kinds": []}, b""
    shortest = min(len(v) for c in kept for v in rows[c])
    tables = [np.stack([np.asarray(v[:shortest], np.float64) for v in rows[c]]) for c in kept]
    index = _log_spread(tables[0].shape[1], MAX_VALUES)
    run |= {
        "kinds": [SPECTRA[c] for c in kept],
        "index": (index + 1).tolist(),
        "dimensions": int(tables[0].shape[1]),
        "largest": {SPECTRA[c]: float(t.max()) for c, t in zip(kept, tables, strict=True)},
    }
    for column, table in zip(kept, tables, strict=True):
        total = table.sum(axis=1)
        share = np.divide(table[:, 0], total, out=np.zeros_like(total), where=total > 0)
        run["share"][SPECTRA[column]] = share.tolist()
    return run, floats(np.stack([table[:, index] for table in tables], axis=1))


def _axis(rows: pd.DataFrame, name: str) -> list[float]:
    other = "step" if name == "epoch" else "epoch"
    return rows[name if name in rows.columns else other].astype(float).tolist()


def _series(values: pd.Series) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values.astype(float)]


def _losses(train: pd.DataFrame) -> dict[str, list] | None:
    """The training loss as means over at most `MAX_LOSSES` stretches of equal length."""
    if "loss" not in train.columns or train["loss"].notna().sum() == 0:
        return None
    known = train[train["loss"].notna()]
    stretches = np.array_split(np.arange(len(known)), min(len(known), MAX_LOSSES))
    values = known["loss"].to_numpy(float)
    return {
        "epoch": [_axis(known, "epoch")[s[-1]] for s in stretches],
        "step": [_axis(known, "step")[s[-1]] for s in stretches],
        "value": _series(pd.Series([values[s].mean() for s in stretches])),
    }


def _spread(count: int, most: int) -> np.ndarray:
    """At most `most` rows of `count`, evenly, with the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _log_spread(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` singular values: all of the first ones, then ever wider apart."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.geomspace(1, count, most).round().astype(int)) - 1


def _change(values: list[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{known[0]:.3g} to {known[-1]:.3g}" if known else "unknown"
