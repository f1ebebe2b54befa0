"""How sure is an AUC that rests on a dozen patients? AUCs, intervals, paired tests, Holm.

Everything under one name; the parts are `cells` (the AUC and what is resampled), `intervals`,
`comparison` and `delong`. The page "How sure is an AUC?" of the book says in plain words what they
do, and book/coverage.csv how well they keep what they promise.
"""

from scxr.evaluate.cells import Cell, auc
from scxr.evaluate.comparison import holm, paired_difference
from scxr.evaluate.intervals import (
    hanley_mcneil,
    interval,
    mean_interval,
    score_interval,
)

__all__ = [
    "Cell",
    "auc",
    "hanley_mcneil",
    "holm",
    "interval",
    "mean_interval",
    "paired_difference",
    "score_interval",
]
