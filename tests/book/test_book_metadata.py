"""Facts that stand in several files say the same in all of them."""

from __future__ import annotations

import csv
import hashlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
REPOSITORY = CONFIG["repository"]["url"]
ASSETS = ROOT / "book" / "assets"


def pages_and_chapters() -> list[Path]:
    return [
        ROOT / "README.md",
        ROOT / "CITATION.cff",
        ROOT / "pyproject.toml",
        *sorted((ROOT / "book").glob("*.md")),
        *sorted((ROOT / "chapters").glob("*.py")),
    ]


def lines_of(name: str) -> list[str]:
    lines = (ROOT / name).read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("path", pages_and_chapters(), ids=lambda p: p.name)
def test_repository_address_is_that_of_the_config(path):
    owner, name = REPOSITORY.rstrip("/").split("/")[-2:]
    named = re.findall(r"github(?:\.com)?/([\w.-]+)/([\w-]+)", path.read_text())
    ours = [pair for pair in named if pair[1] == name]
    assert all(pair == (owner, name) for pair in ours), f"{path.name} names {ours}"


@pytest.mark.parametrize("name", ["README.md", "CITATION.cff"])
def test_readme_and_citation_name_the_repository(name):
    assert REPOSITORY in (ROOT / name).read_text()


def test_version_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "book" / "changelog.md").read_text()


def test_requirements_are_those_of_the_package():
    assert lines_of("requirements.txt") == PROJECT["dependencies"]


def test_requirements_never_force_a_replacement():
    for requirement in map(Requirement, PROJECT["dependencies"]):
        operators = {spec.operator for spec in requirement.specifier}
        assert operators <= {">="}, f"{requirement} would replace what Colab has"


def test_lock_pins_index_packages_exactly():
    for line in lines_of("requirements.lock"):
        assert re.fullmatch(r'[\w.-]+==[\w.]+( ; sys_platform == "linux")?', line), line


def test_lock_satisfies_what_is_declared():
    pins = {}
    for requirement in map(Requirement, lines_of("requirements.lock")):
        (pin,) = requirement.specifier
        pins[canonicalize_name(requirement.name)] = pin.version
    extras = PROJECT["optional-dependencies"]
    for requirement in map(
        Requirement, [*PROJECT["dependencies"], *extras["book"], *extras["test"]]
    ):
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not locked; run: make lock"
        assert requirement.specifier.contains(version), f"{requirement} but {version} is locked"


def test_citation_is_complete():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license", "abstract"} <= set(citation)
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == REPOSITORY
    assert "medical device" in citation["abstract"]
    assert "CITATION.cff" in (ROOT / "book" / "how-to-cite.md").read_text()


def test_the_repository_is_named_nowhere_else():
    """Whoever moves the repository finds every place here; a page never hides one."""
    allowed = {path.relative_to(ROOT) for path in pages_and_chapters()} | {Path("_config.yml")}
    suffixes = {".py", ".md", ".toml", ".cff", ".yml", ".css", ".js", ".sh", ".txt", ".html"}
    folders = ("scxr", "book", "chapters", "scripts", "tests", ".github")
    named = {
        path.relative_to(ROOT)
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes and REPOSITORY in path.read_text(encoding="utf-8")
    }
    assert named <= allowed


def test_contents_list_every_page():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    pages = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    assert pages == {name for name in [contents["root"], *listed] if name.startswith("book/")}


def test_contents_list_every_chapter():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    chapters = [f"chapters/{path.stem}" for path in sorted((ROOT / "chapters").glob("[0-9]*.py"))]
    assert [name for name in listed if name.startswith("chapters/")] == chapters


def test_run_times_have_a_row_for_every_chapter():
    with (ROOT / "book" / "run-times.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    headings = [
        re.search(r"^# # (.+)$", path.read_text(), re.M).group(1)
        for path in sorted((ROOT / "chapters").glob("[0-9]*.py"))
    ]
    assert [row["Chapter"] for row in rows] == [f"{i} · {h}" for i, h in enumerate(headings, 1)]
    for row in rows:
        for column in ("Two CPU cores", "T4", "L4"):
            assert re.search(r"\((measured|estimated)\)$|^not measured$", row[column]), row


def test_vendored_files_are_the_ones_recorded():
    recorded = dict(
        reversed(line.split())
        for line in (ASSETS / "VENDORED.md").read_text().splitlines()
        if re.match(r"[0-9a-f]{64} ", line)
    )
    found = {
        str(path.relative_to(ASSETS)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (ASSETS / "vendor").rglob("*.js")
    }
    assert found == recorded


def test_vendored_files_stay_small():
    total = sum(path.stat().st_size for path in (ASSETS / "vendor").rglob("*") if path.is_file())
    assert total < 6_000_000
