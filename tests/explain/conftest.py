"""These tests cache what they compute below a folder of their own."""

import pytest


@pytest.fixture(autouse=True)
def cached_apart(own_cache: object) -> None:
    """Every test of this folder."""
