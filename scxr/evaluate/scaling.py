"""How many labels do I need? A power law through AUC against shots, with its uncertainty.

The curve is `scxr.evaluate.power_law`, its points and their covariance `learning_curve`. The fit is
least squares weighted by the points' variances, with ceiling <= 1 and scale >= 0; it is repeated on
curves drawn with that covariance, and the percentiles of the refits are the intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from scxr.errors import InputError
from scxr.evaluate.learning_curve import points_of_results, points_of_scores, uncapped
from scxr.evaluate.power_law import fit_power_law, inverse_power_law, power_law
from scxr.seeds import seed_for

FURTHEST = 4.0
"""How far beyond the largest number of shots an answer is given, as a factor. On learning curves
that are known exactly (nearest means of Gaussian features, 8 to 512 wide), a power law through 1 to
50 shots is off by up to 0.04, with 512 features 0.09, at four times as many; further on by 0.14."""
MEAN = "mean over findings"


@dataclass(frozen=True)
class LabelsNeeded:
    """The answer to "how many labels until an AUC of `target`?".

    Attributes:
        target: the AUC asked for.
        shots: labelled images a class; infinite where the fitted curve does not get there within
            reach, NaN where the curve is flat and says nothing about labels.
        low, high: interval for it; infinite where an end lies beyond reach.
        verdict: "measured" (within the shots that were tried), "extrapolated", "too far", "above
            the ceiling" or "flat".
        sentence: the same in words.
    """

    target: float
    shots: float
    low: float
    high: float
    verdict: str
    sentence: str


@dataclass(frozen=True)
class ScalingFit:
    """A fitted curve AUC(n) = ceiling - scale * n^(-exponent), n labelled images a class.

    Attributes:
        init, finding: whose curve; `finding` is `MEAN` for the mean over findings.
        shots, aucs: (s,) the points.
        ci_low, ci_high: (s,) their intervals.
        ceiling, scale, exponent: the fit; `ceiling` is at most 1, `exponent` within `EXPONENTS`.
            Where the curve still climbs at the last shot count, the ceiling is little but a guess.
        ceiling_interval, scale_interval, exponent_interval: (low, high) at `level`.
        level: of all intervals.
        note: what a reader has to know before believing the curve.
    """

    init: str
    finding: str
    shots: np.ndarray
    aucs: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    ceiling: float
    scale: float
    exponent: float
    ceiling_interval: tuple[float, float]
    scale_interval: tuple[float, float]
    exponent_interval: tuple[float, float]
    level: float
    note: str = ""
    refits: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)), repr=False)

    @property
    def reach(self) -> float:
        """The largest number of shots that an answer is given for."""
        return FURTHEST * float(self.shots.max())

    @property
    def rising(self) -> bool:
        """Whether the AUC grows over the shots that were tried, beyond what chance would show."""
        first, last = power_law(self.refits, self.shots[[0, -1]]).T
        return bool(np.quantile(last - first, 0.5 - self.level / 2) > 1e-6)

    def predict(self, shots: Iterable[float]) -> pd.DataFrame:
        """The curve at any number of shots.

        Returns:
            shots, auc, ci_low, ci_high (the band, pointwise at `level`), extrapolated (whether
            beyond the shots that were tried).

        Raises:
            InputError: a number of shots below 1.
        """
        shots = np.atleast_1d(np.asarray(list(shots), dtype=float))
        if not (shots >= 1).all():
            raise InputError("A curve over shots starts at 1 shot: give numbers from 1 on.")
        fitted = np.array([[self.ceiling, self.scale, self.exponent]])
        low, high = np.quantile(power_law(self.refits, shots), self._tails, axis=0)
        return pd.DataFrame(
            {
                "shots": shots,
                "auc": power_law(fitted, shots)[0],
                "ci_low": low,
                "ci_high": high,
                "extrapolated": shots > self.shots.max(),
            }
        )

    def labels_needed(self, auc: float) -> LabelsNeeded:
        """Labelled images a class until the curve reaches `auc`, and how sure that is.

        The interval runs from where the upper edge of the band reaches the target to where the
        lower edge does. Nothing is said beyond `reach`.

        Raises:
            InputError: `auc` is not between 0.5 and 1.
        """
        if not 0.5 < auc < 1:
            raise InputError(f"The AUC to reach is {auc}; give one between 0.5 and 1.")
        needed = inverse_power_law(self.refits, auc)
        low, high = (
            self._within(float(x)) for x in np.quantile(needed, self._tails, method="inverted_cdf")
        )
        fitted = np.array([[self.ceiling, self.scale, self.exponent]])
        exact = float(inverse_power_law(fitted, auc)[0])
        shots = self._within(exact)
        if shots <= self.shots.max():
            verdict = "measured"
        elif not self.rising:
            verdict, shots, low, high = "flat", math.nan, math.nan, math.nan
        elif math.isfinite(shots):
            verdict = "extrapolated"
        else:
            verdict = "too far" if math.isfinite(exact) else "above the ceiling"
        sentence = self._sentence(auc, verdict, shots, low, high)
        return LabelsNeeded(auc, shots, low, high, verdict, sentence)

    @property
    def _tails(self) -> list[float]:
        return [0.5 - self.level / 2, 0.5 + self.level / 2]

    def _within(self, shots: float) -> float:
        """Whole images, not fewer than were tried; infinite beyond reach."""
        shots = max(math.ceil(round(shots, 6)), self.shots.min()) if shots < math.inf else shots
        return float(shots) if shots <= self.reach else math.inf

    def _sentence(self, auc: float, verdict: str, shots: float, low: float, high: float) -> str:
        name = f"An AUC of {auc:g}"
        most = f"{self.shots.max():g}"
        if verdict == "flat":
            return (
                f"{name} is above the curve, and the curve does not rise over the shots tried: "
                "more labels of this kind are not known to help."
            )
        until = f"{high:g}" if math.isfinite(high) else f"more than {self.reach:g}"
        span = f"{self.level:.0%} interval: {low:g} to {until}"
        if not math.isfinite(low):
            span = f"{self.level:.0%} interval: more than {self.reach:g}"
        if verdict == "measured":
            first = "at most " if shots <= self.shots.min() else ""
            return f"{name} takes {first}{shots:g} labelled images a class ({span})."
        if verdict == "extrapolated":
            return (
                f"{name} takes about {shots:g} labelled images a class ({span}); that is an "
                f"extrapolation, only {most} were tried."
            )
        why = (
            f"takes more labels than the {self.reach:g} a class up to which this curve is trusted"
            if verdict == "too far"
            else f"lies above the fitted ceiling of {self.ceiling:.3f}, however many labels"
        )
        return f"{name} {why} ({span})."


def fit_scaling(
    table: pd.DataFrame,
    *,
    init: str | None = None,
    finding: str | None = None,
    level: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> ScalingFit:
    """Fit AUC against shots, for one init and one finding or the mean over all findings.

    Args:
        table: scores (`SCORE_COLUMNS`), or results (`RESULT_COLUMNS`, at 95 %). Scores are
            better: with results alone the points of a curve count as independent.
        init: whose curve; may be left out where there is but one.
        finding: None for the mean over findings.
        level: of the intervals.
        repeats: resamples of the patients, and refits.
        seed: of both.

    A shot count that was capped for want of training positives counts as those there were; from
    the mean over findings it is left out.

    Raises:
        InputError: init or finding are not in the table, or fewer than three shot counts remain.
    """
    scored = "score" in table.columns
    wanted = {"init", "finding", "shots", "positives"}
    wanted |= {"trial", "row", "patient", "label"} if scored else {"auc_mean", "ci_low", "ci_high"}
    if missing := sorted(wanted - set(table.columns)):
        raise InputError(
            f"The table lacks the columns {', '.join(missing)}: give it scores or results."
        )
    init = _one_of(table, "init", init)
    part = table[table["init"] == init]
    if finding is not None:
        part = part[part["finding"] == _one_of(part, "finding", finding)]
    findings = list(dict.fromkeys(part["finding"]))
    part, note = uncapped(part, len(findings))
    shots = np.sort(part["shots"].unique()).astype(float)
    if len(shots) < 3:
        raise InputError(
            f"A curve of three parameters needs at least three shot counts; {init} has {len(shots)}"
            + (f" ({note})." if note else ".")
        )
    estimate = points_of_scores if scored else points_of_results
    aucs, covariance = estimate(part, findings, shots, repeats, seed)
    if not (np.isfinite(aucs).all() and np.isfinite(covariance).all()):
        raise InputError("Some AUCs or intervals of the curve are not finite: evaluate it again.")
    named = findings[0] if len(findings) == 1 else MEAN
    return _fit(init, named, shots, aucs, covariance, level, repeats, seed, note)


def _one_of(table: pd.DataFrame, column: str, wanted: str | None) -> str:
    known = list(dict.fromkeys(table[column]))
    if wanted is None and len(known) == 1:
        return str(known[0])
    if wanted not in known:
        given = f"{wanted!r} is not among them" if wanted is not None else "name one"
        raise InputError(
            f"A curve belongs to one {column}, and {given}: {', '.join(map(str, known))}."
        )
    return str(wanted)


def _fit(
    init: str,
    finding: str,
    shots: np.ndarray,
    aucs: np.ndarray,
    covariance: np.ndarray,
    level: float,
    repeats: int,
    seed: int,
    note: str,
) -> ScalingFit:
    variance = np.clip(np.diag(covariance), 1e-12, None)
    random = np.random.default_rng(seed_for(seed, "scaling", init, finding))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    drawn = aucs + random.normal(size=(repeats, len(shots))) @ root.T
    ceiling, scale, exponent = (float(x) for x in fit_power_law(shots, aucs, 1 / variance))
    refits = np.stack(fit_power_law(shots, drawn, 1 / variance), axis=1)
    tails = [0.5 - level / 2, 0.5 + level / 2]
    ends = [(float(low), float(high)) for low, high in np.quantile(refits, tails, axis=0).T]
    reach = stats.norm.ppf(tails[1]) * np.sqrt(variance)
    return ScalingFit(
        init=init,
        finding=finding,
        shots=shots,
        aucs=aucs,
        ci_low=np.clip(aucs - reach, 0, 1),
        ci_high=np.clip(aucs + reach, 0, 1),
        ceiling=ceiling,
        scale=scale,
        exponent=exponent,
        ceiling_interval=ends[0],
        scale_interval=ends[1],
        exponent_interval=ends[2],
        level=level,
        note=note,
        refits=refits,
    )
