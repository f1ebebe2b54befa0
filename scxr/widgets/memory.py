"""Will it fit? What a training step keeps in memory, against the memory of a card."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd
import traitlets

from scxr.errors import InputError
from scxr.memory import CARDS
from scxr.memory.grid import total
from scxr.methods import METHODS
from scxr.widgets.base import CourseWidget, front_end, style

KEYS = ("method", "backbone", "size", "precision", "checkpointing")


class MemoryWidget(CourseWidget):
    """Choose a method, a network, a batch and a card: the parts of a step beside the card's limit.

    Args:
        table: `scxr.memory.grid()`, or the rows of it that are wanted.
        cards: memory of the cards on offer, GB (10^9 bytes).
        batch, card: what is shown first, in the first row of the table.

    Raises:
        InputError: the table is empty or no table of `grid`, or the card is not on offer.
    """

    _esm = front_end("memory")
    _css = style()

    rows: traitlets.List = traitlets.List().tag(sync=True)
    titles: traitlets.Dict = traitlets.Dict().tag(sync=True)
    cards: traitlets.List = traitlets.List().tag(sync=True)
    method = traitlets.Unicode().tag(sync=True)
    backbone = traitlets.Unicode().tag(sync=True)
    size = traitlets.Int().tag(sync=True)
    precision = traitlets.Unicode().tag(sync=True)
    checkpointing = traitlets.Bool().tag(sync=True)
    batch = traitlets.Int().tag(sync=True)
    card = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        cards: Sequence[int] = CARDS,
        batch: int = 256,
        card: int = 22,
    ) -> None:
        if table.empty or not {*KEYS, "peak_per_image"} <= set(table.columns):
            raise InputError("Give a table that scxr.memory.grid() made, with at least one row.")
        if card not in cards:
            raise InputError(f"There is no card of {card} GB among {', '.join(map(str, cards))}.")
        rows = json.loads(table.to_json(orient="records"))
        first = {key: rows[0][key] for key in KEYS}
        titles = {name: METHODS[name].title for name in table["method"].unique()}
        super().__init__(
            rows=rows, titles=titles, cards=list(cards), batch=batch, card=card, **first
        )

    def describe(self) -> str:
        """What the chosen step takes, with and without what saves memory."""
        alike = [r for r in self.rows if all(r[k] == getattr(self, k) for k in KEYS[:3])]
        parts = [
            f"{r['precision']}{', checkpointed' if r['checkpointing'] else ''}: "
            f"{total(pd.Series(r), self.batch) / 1e9:.1f} GB"
            for r in alike
        ]
        return (
            f"Will it fit? A step of {self.method} with {self.backbone}, {self.size} px and "
            f"batch {self.batch} takes " + "; ".join(parts) + ". GB is 10^9 bytes."
        )
