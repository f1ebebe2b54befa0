"""Every chapter has a notebook that says the same as its script and that was really run."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "chapters").glob("[0-9]*.py"))
REMEDY = "run: make notebooks"
LARGEST = 3_000_000  # bytes; larger notebooks open slowly on Colab and show nothing on GitHub


def notebook_of(script: Path) -> nbformat.NotebookNode:
    path = script.with_suffix(".ipynb")
    assert path.is_file(), f"{path.name} is missing; {REMEDY}"
    return nbformat.read(path, as_version=4)


def text_of(notebook: nbformat.NotebookNode) -> list[tuple[str, str, list[str]]]:
    return [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in notebook.cells]


def test_six_chapters():
    assert [script.stem[:2] for script in SCRIPTS] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_notebook_says_what_the_script_says(script):
    said = text_of(jupytext.read(script, fmt="py:percent"))
    assert text_of(notebook_of(script)) == said, f"{script.stem}.ipynb is out of step; {REMEDY}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_notebook_was_run_from_top_to_bottom(script):
    cells = [c for c in notebook_of(script).cells if c.cell_type == "code" and c.source.strip()]
    assert cells, "a chapter without code"
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), f"not run in order; {REMEDY}"
    errors = [o for cell in cells for o in cell.outputs if o.output_type == "error"]
    expected = [c for c in cells if "raises-exception" in c.metadata.get("tags", [])]
    assert len(errors) == len(expected)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_notebook_is_small_and_knows_its_kernel(script):
    notebook = notebook_of(script)
    assert "widgets" not in notebook.metadata, f"widget state is for the book; {REMEDY}"
    assert notebook.metadata.kernelspec.name == "python3"
    assert script.with_suffix(".ipynb").stat().st_size < LARGEST
    # Without a kernel in the script's header the page would have no launch button.
    assert jupytext.read(script, fmt="py:percent").metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_no_cell_relies_on_a_semicolon(script):
    """nbval keeps no history, without which IPython prints what a final `;` should hide."""
    code = [
        c.source.rstrip()
        for c in jupytext.read(script, fmt="py:percent").cells
        if c.cell_type == "code"
    ]
    assert [source.splitlines()[-1] for source in code if source.endswith(";")] == []
