"""Execute chapters/*.py into the notebooks beside them (`make notebooks`).

The percent script is what people edit. The notebook is what Colab opens and what `pytest --nbval`
replays, so it carries outputs, but nothing that changes from run to run: no widget state (the book
computes it anew and it weighs megabytes), no time stamps, stable cell and widget ids.

    python scripts/notebooks.py [--text] [chapters/03_contrast_and_collapse.py ...]

With --text, prose and metadata are brought in step and nothing is executed; a chapter whose code
has changed is refused.
"""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

import jupytext
import nbformat
from jupytext.combine import combine_inputs_with_outputs
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
TIMEOUT = 900  # seconds a cell


def update(script: Path) -> nbformat.NotebookNode:
    """The notebook of `script`, with the cell ids of the notebook that is already there."""
    notebook = jupytext.read(script, fmt="py:percent")
    target = script.with_suffix(".ipynb")
    if target.is_file():
        before = nbformat.read(target, as_version=4)
        notebook = combine_inputs_with_outputs(notebook, before, fmt="py:percent")
    return notebook


def settle(notebook: nbformat.NotebookNode, name: str) -> None:
    """Remove or fix what differs between two executions of the same text."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.id = uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{number}").hex[:8]
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            view = output.get("data", {}).get(WIDGET_VIEW)
            if view:
                view["model_id"] = uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{number}").hex


def execute(script: Path) -> Path:
    """Execute `script` from top to bottom and write its notebook; returns the notebook's path."""
    notebook = update(script)
    NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(script.parent)}},
        store_widget_state=False,
        record_timing=False,
    ).execute()
    settle(notebook, script.stem)
    nbformat.validate(notebook)
    target = script.with_suffix(".ipynb")
    nbformat.write(notebook, target)
    return target


def retell(script: Path) -> Path:
    """Bring prose and metadata of the notebook in step with `script`; outputs stay."""
    target = script.with_suffix(".ipynb")
    before, notebook = nbformat.read(target, as_version=4), update(script)
    code = [[c.source for c in n.cells if c.cell_type == "code"] for n in (before, notebook)]
    if code[0] != code[1]:
        sys.exit(f"{script.name} has other code than its notebook: execute it.")
    old = (c for c in before.cells if c.cell_type == "code")
    for cell, kept in zip((c for c in notebook.cells if c.cell_type == "code"), old, strict=True):
        cell.outputs, cell.execution_count = kept.outputs, kept.execution_count
    settle(notebook, script.stem)
    nbformat.validate(notebook)
    nbformat.write(notebook, target)
    return target


def main(names: list[str]) -> None:
    """Execute the chapters named, or all of them, with the cache that the book uses."""
    work = retell if "--text" in names else execute
    names = [name for name in names if name != "--text"]
    os.environ.setdefault("SCXR_CACHE", str(ROOT / ".scxr"))
    os.environ.setdefault("TQDM_DISABLE", "1")
    for script in [Path(n).resolve() for n in names] or sorted(CHAPTERS.glob("*.py")):
        print(f"{script.name} ...", flush=True)
        target = work(script)
        print(f"  wrote {target.name}, {target.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
