"""A tiny store, a run of each method that nothing disturbed, and one that was stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_runs import interrupt, train, write_store

from scxr.data import RadiographStore
from scxr.runs import Run


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> RadiographStore:
    path = tmp_path_factory.mktemp("data") / "store"
    write_store(path, 64)
    return RadiographStore.open(path)


@pytest.fixture(scope="session")
def finished(store, tmp_path_factory) -> Callable[[str], Run]:
    """A run of each method that nothing disturbed, trained when it is first asked for."""
    made: dict[str, Run] = {}

    def get(method: str) -> Run:
        if method not in made:
            made[method] = train(method, store, tmp_path_factory.mktemp("runs") / method)
        return made[method]

    return get


@pytest.fixture(scope="session")
def stopped_once(store, tmp_path_factory) -> Path:
    """A BarlowTwins run that lost its disk after step 5; the state of step 4 was saved."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    interrupt("barlow", store, out, after=5)
    return out


@pytest.fixture
def stopped(stopped_once, tmp_path) -> Path:
    """A copy of `stopped_once` to do with as a test likes."""
    return Path(shutil.copytree(stopped_once, tmp_path / "stopped"))
