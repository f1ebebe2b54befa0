"""The small scripts behind the Makefile decide what counts as tested and what is built anew."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from docutils.core import publish_parts

ROOT = Path(__file__).resolve().parents[2]


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def report(tmp_path):
    """Write a JUnit report with one skipped test and one expected failure."""

    def write(reason: str) -> Path:
        (tmp_path / "unit.xml").write_text(
            '<testsuites><testsuite><testcase name="a"/>'
            f'<testcase name="b"><skipped type="pytest.skip" message="{reason}"/></testcase>'
            '<testcase name="c"><skipped type="pytest.xfail" message="known"/></testcase>'
            "</testsuite></testsuites>"
        )
        return tmp_path

    return write


def test_left_out_tests_are_named(report, capsys, monkeypatch):
    monkeypatch.delenv("SCXR_REQUIRE_ALL", raising=False)
    assert load("scripts/left_out.py").main(report("no browser")) == 0
    said = capsys.readouterr().out
    assert "LEFT OUT: 1 tests" in said and "no browser" in said


@pytest.mark.parametrize(
    ("reason", "code"),
    [("no browser", 1), ("no real radiographs at /data", 0), ("needs CUDA", 0)],
)
def test_left_out_tests_fail_where_all_are_required(report, monkeypatch, reason, code):
    monkeypatch.setenv("SCXR_REQUIRE_ALL", "1")
    assert load("scripts/left_out.py").main(report(reason)) == code


def test_nothing_left_out(tmp_path, capsys):
    (tmp_path / "unit.xml").write_text("<testsuites><testsuite/></testsuites>")
    assert load("scripts/left_out.py").main(tmp_path) == 0
    assert "none was left out" in capsys.readouterr().out


def test_stale_pages_go_and_fresh_ones_stay(tmp_path, monkeypatch):
    script = load("scripts/forget_stale.py")
    monkeypatch.setattr(script, "BUILD", tmp_path)
    pages = tmp_path / "html"
    for digest, kept in [("one", False), ("one", True), ("two", False)]:
        pages.mkdir(exist_ok=True)
        script.forget_if_changed("look", digest, [pages])
        assert pages.exists() == kept


def test_docstrings_become_restructuredtext():
    convert = load("book/extensions/plain_docstrings.py").to_restructuredtext
    text = convert(
        "Mean of |z| and *q*, for `k`s, (`x`, `y`) of shape (B, d).\n\n"
        "First:\n- one\n- two\n\n"
        "Args:\n    q, k: (B, d), unit\n        length.\n\n"
        "Returns:\n    A scalar.\n\n"
        "Raises `InputError` where there is none."
    )
    assert text[0] == (
        r"Mean of \|z\| and \*q\*, for ``k``\ s, (\ ``x``\ , ``y``\ ) of shape (B, d)."
    )
    assert text[2:8] == ["First:", "", "- one", "", "- two", ""]
    assert "- ``q, k``: (B, d), unit length." in text
    assert text[text.index("**Returns**") + 2] == "A scalar."
    assert text[-2] == "Raises ``InputError`` where there is none."


def test_tables_in_docstrings_become_tables():
    convert = load("book/extensions/plain_docstrings.py").to_restructuredtext
    text = convert("They differ:\n\n| | `a` |\n|---|---|\n| x_y | 1 |\n| z | |\n\nEnd.")
    page = publish_parts("\n".join(text), writer_name="html5", settings_overrides={"halt_level": 2})
    rows = re.findall(r"<tr>.*?</tr>", page["body"], re.S)
    cells = [[re.sub(r"<.*?>", "", c) for c in re.findall(r"<t[hd].*?</t[hd]>", r)] for r in rows]
    assert cells == [["", "a"], ["x_y", "1"], ["z", ""]]
    assert text[-2] == "End."
