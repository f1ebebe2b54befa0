"""The workflows for forks parse, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.M))


def parsed(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_three_workflows_are_there():
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "colab.yml", "pages.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_workflow_is_well_formed(path):
    workflow = parsed(path)
    assert workflow["name"]
    assert workflow[True]  # YAML 1.1 reads the key `on` as true, and so does GitHub's own parser
    assert workflow["permissions"] == {"contents": "read"}, "jobs ask for more where they need it"
    names = set(workflow["jobs"])
    for job in workflow["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= names
    for step in steps(workflow):
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_commands_name_what_exists(path):
    text = "\n".join(step.get("run", "") for step in steps(parsed(path)))
    for target in re.findall(r"\bmake ([a-z-]+)", text):
        assert target in TARGETS, f"the Makefile has no {target}"
    for file in re.findall(r"(?:^|\s)((?:scripts|\.ci)/[\w./-]+)", text):
        assert (ROOT / file).is_file(), file
    for step in steps(parsed(path)):
        cached = step.get("with", {}).get("cache-dependency-path")
        assert cached is None or (ROOT / cached).is_file()


def test_ci_runs_what_continuous_integration_runs():
    commands = [s["run"] for s in steps(parsed(ROOT / ".github/workflows/ci.yml")) if "run" in s]
    assert ".ci/run" in commands
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_colab_opens_an_issue_only_after_a_failure():
    workflow = parsed(ROOT / ".github/workflows/colab.yml")
    report = workflow["jobs"]["report"]
    assert report["needs"] == "notebooks" and "failure()" in report["if"]
    assert report["permissions"] == {"issues": "write"}
    assert "schedule" in workflow[True]


def test_hooks_use_tools_of_the_environment():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    assert {"ruff", "ruff-format", "notebooks"} <= {hook["id"] for hook in hooks}
    for hook in hooks:
        assert hook["entry"].startswith(".venv/bin/")
        for file in re.findall(r"tests/[\w/.]+", hook["entry"]):
            assert (ROOT / file).is_file()
