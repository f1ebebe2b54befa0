"""Two processes with half the batch each compute what one computes with all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import half_batches
import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """What each of two processes (gloo) got."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, str(Path(half_batches.__file__)), str(folder)]
    started = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    return [load_file(folder / f"{rank}.safetensors") for rank in range(2)]


@pytest.mark.parametrize("case", half_batches.CASES)
def test_gradients_are_those_of_one_process(together, case):
    alone = half_batches.compute(case)
    assert len(alone) > 10
    # Rounding is in proportion to the largest gradient: some are zeros made of large terms.
    scale = max(tensor.abs().max() for tensor in alone.values())
    for name, expected in alone.items():
        for mine in together:
            assert (mine[f"{case}.{name}"] - expected).abs().max() < 1e-4 * scale, name
