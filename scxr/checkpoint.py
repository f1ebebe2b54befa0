"""What an interrupted run needs to go on: weights, optimiser, step, and a log cut to that step.

Random state is not among it, because training draws from streams named after the step
(see `scxr.seeds`). Only safetensors and JSON are read, never pickle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

import torch
from lightning_fabric.plugins.precision import Precision
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.optim import Optimizer

from scxr.errors import InputError
from scxr.runs import read_log, read_tensors, replacing, write_tensors


def save_state(
    path: Path, method: nn.Module, optimizer: Optimizer, precision: Precision, step: int
) -> None:
    """Write weights, buffers, optimiser and the loss scale of fp16 in one atomic file."""
    tensors = {f"method.{k}": v for k, v in method.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
    scale = json.dumps(precision.state_dict())
    write_tensors(path, tensors, {"step": str(step), "precision": scale})


def load_state(path: Path, method: nn.Module, optimizer: Optimizer, precision: Precision) -> int:
    """Restore what `save_state` wrote; the number of steps that are done, 0 without a file."""
    if not path.is_file():
        return 0
    try:
        tensors, metadata = read_tensors(path)
        weights = {k: v for k, v in tensors.items() if k.startswith("method.")}
        method.load_state_dict({k.removeprefix("method."): v for k, v in weights.items()})
        step = int(metadata["step"])
        precision.load_state_dict(json.loads(metadata["precision"]))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}): delete it to start this run afresh."
        ) from error
    except RuntimeError as error:  # lists every weight that does not fit
        raise InputError(
            f"{path} is the state of another run: delete it to start this run afresh."
        ) from error
    state: dict[int, dict[str, Any]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name in tensors.keys() - weights.keys():
        _, index, key = name.split(".", 2)
        value, parameter = tensors[name], parameters[int(index)]
        if value.shape == parameter.shape:
            # Laid out in memory as its parameter is: the optimiser is half as fast otherwise.
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[key] = value
    # load_state_dict gives every tensor its parameter's device and keeps the groups we made.
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step


def saved_step(path: Path) -> int:
    """The step whose state `save_state` wrote, without reading it all."""
    with safe_open(path, framework="pt") as file:
        return int(file.metadata()["step"])


class TrainingLog:
    """log.jsonl, appended to line by line; `start` cuts off what an interrupted run wrote after
    its last saved state, so that every step is logged once."""

    def __init__(self, path: Path, start: int) -> None:
        kept = [r for r in read_log(path) if r["step"] <= start] if path.is_file() else []
        if start == 0:
            kept = []
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self.observed = {row["step"] for row in kept if row["kind"] == "monitor"}
        self._file: TextIO = path.open("a")

    def write(self, kind: str, step: int, epoch: float, row: dict[str, Any]) -> None:
        """Append one row, at once: a kill loses at most the line being written."""
        row = {"kind": kind, "step": step, "epoch": round(epoch, 4), **row}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
