"""Time each chapter on this machine with an empty cache and record it (`make run-times`).

The table in book/how-to-run.md reads book/run-times.csv. A chapter is timed as a reader meets it
on Colab: alone, nothing cached. GPU columns stay as they are until somebody measures there.
"""

from __future__ import annotations

import csv
import os
import re
import tempfile
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "book" / "run-times.csv"
COLUMNS = ["Chapter", "Two CPU cores", "T4", "L4", "Download"]


def seconds(script: Path) -> float:
    """Execute one chapter in an empty cache; the time it took in seconds."""
    notebook = jupytext.read(script, fmt="py:percent")
    with tempfile.TemporaryDirectory() as cache:
        started = time.monotonic()
        NotebookClient(
            notebook,
            timeout=1800,
            kernel_name="python3",
            resources={"metadata": {"path": str(script.parent)}},
        ).execute(env={**os.environ, "SCXR_CACHE": cache})
        return time.monotonic() - started


def title(script: Path) -> str:
    """`3 · Contrast and collapse`, from the chapter's first heading."""
    heading = re.search(r"^# # (.+)$", script.read_text(), re.M)
    return f"{int(script.stem[:2])} · {heading.group(1) if heading else script.stem[3:]}"


def readable(duration: float) -> str:
    """Seconds as `1 min 20 s (measured)`."""
    minutes, rest = divmod(round(duration), 60)
    return (f"{minutes} min {rest:02d} s" if minutes else f"{rest} s") + " (measured)"


def main() -> None:
    """Time all chapters; keep the other columns."""
    known = {}
    if TABLE.is_file():
        with TABLE.open(newline="") as file:
            known = {row["Chapter"]: row for row in csv.DictReader(file)}
    rows = []
    for script in sorted((ROOT / "chapters").glob("*.py")):
        name = title(script)
        row = known.get(name, dict.fromkeys(COLUMNS, "not measured") | {"Download": "none"})
        rows.append(row | {"Chapter": name, "Two CPU cores": readable(seconds(script))})
        print(rows[-1]["Chapter"], rows[-1]["Two CPU cores"], flush=True)
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
