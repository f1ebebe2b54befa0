"""A run folder: what pretraining leaves behind, and how it is written so that a kill loses nothing.

    config.json             method, settings, data, seed, environment
    log.jsonl               one row a logged step ("train"), one a measurement ("monitor")
    snapshots/              small tensors kept along the way (SparK's reconstructions)
    resume.safetensors      everything needed to go on; gone when the run is finished
    method.safetensors      all weights at the end: encoder, heads, decoder, queue
    encoder.safetensors     the encoder alone; written last, so its presence means "finished"

Every file is written beside its place and moved there in one step. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from scxr.encoders import Encoder, read_encoder
from scxr.errors import InputError

FORMAT = 1


@dataclass(frozen=True)
class Snapshot:
    """Tensors that a method kept at one moment of training."""

    step: int
    epoch: float
    tensors: dict[str, Tensor]
    metadata: dict[str, str]


class Run:
    """A run folder, finished or not, read lazily.

    Attributes:
        path: the folder.
        config: what config.json says.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config = path, config

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder; an InputError says what is missing if it is none."""
        path = Path(path)
        file = path / "config.json"
        if not path.is_dir():
            raise InputError(f"There is no run at {path}: `scxr pretrain --out {path}` makes one.")
        try:
            config = json.loads(file.read_text())
        except FileNotFoundError:
            raise InputError(f"{path} is not a run folder: it has no config.json.") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"{file} cannot be read ({error}): the run is damaged.") from error
        if not isinstance(config, dict) or "method" not in config:
            raise InputError(f"{path} is not a run folder: its config.json is of something else.")
        if config.get("format", 0) > FORMAT:
            raise InputError(f"{path} was written by a newer scxr: update scxr to read it.")
        return cls(path, config)

    @property
    def method(self) -> str:
        """Name of the method that was trained, for example "moco"."""
        return self.config["method"]

    @property
    def finished(self) -> bool:
        """Whether the run reached its last step."""
        return (self.path / "encoder.safetensors").is_file()

    @property
    def name(self) -> str:
        """The folder's name, also of a path like "." that does not say it."""
        return Path(os.path.abspath(self.path)).name  # noqa: PTH100  (links keep their names)

    def require_finished(self) -> Run:
        """This run, or an InputError that says how to finish it."""
        if not self.finished:
            raise InputError(
                f"The run at {self.path} was interrupted: finish it with the command that started "
                f"it and --resume."
            )
        return self

    def encoder(self) -> Encoder:
        """The encoder that survived, frozen and in eval mode."""
        return read_encoder(self.require_finished().path / "encoder.safetensors")

    def summary(self) -> dict[str, Any]:
        """What was trained on what, and how it ended, in a few facts."""
        facts = {k: self.config[k] for k in ("method", "preset", "seed")}
        facts |= {"run": str(self.path), "finished": self.finished}
        facts |= {"backbone": self.config["settings"]["backbone"]}
        facts |= {"images": self.config["data"]["images"]}
        train, monitor = self.log("train"), self.log("monitor")
        if not train.empty:
            facts |= {"steps": int(train["step"].iloc[-1]), "loss": float(train["loss"].iloc[-1])}
            facts["images_per_second"] = float(train["images_per_second"].median())
        if not monitor.empty:
            numbers = ("std_normalised", "mean_cosine", "effective_rank", "rankme")
            facts |= {k: round(float(monitor[k].iloc[-1]), 4) for k in numbers}
        return facts

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            return list(read_log(self.path / "log.jsonl"))
        return []

    def log(self, kind: str = "train") -> pd.DataFrame:
        """Logged rows: "train" (loss, terms, learning rate) or "monitor" (collapse numbers)."""
        rows = [{k: v for k, v in r.items() if k != "kind"} for r in self._rows]
        kept = [row for row, r in zip(rows, self._rows, strict=True) if r["kind"] == kind]
        return pd.DataFrame(kept)

    def snapshots(self) -> list[Snapshot]:
        """What the method kept along the way, oldest first; empty for most methods."""
        found = []
        for file in sorted((self.path / "snapshots").glob("step_*.safetensors")):
            tensors, metadata = read_tensors(file)
            step = int(metadata["step"])
            found.append(Snapshot(step, float(metadata["epoch"]), tensors, metadata))
        return found


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a log; a last line that a kill cut short is left out."""
    with path.open() as file:
        for line in file:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write safetensors atomically. Tensors that share memory are stored each on its own."""
    plain = {
        k: t.detach().cpu().clone(memory_format=torch.contiguous_format) for k, t in tensors.items()
    }
    with replacing(path) as temporary:
        save_file(plain, temporary, metadata=metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}  # noqa: SIM118


def write_encoder(path: Path, encoder: Encoder) -> None:
    """Save an encoder with the settings that rebuild it; `read_encoder` is the way back."""
    write_tensors(path, encoder.state_dict(), {"config": json.dumps(encoder.config)})


def environment() -> dict[str, Any]:
    """Versions, machine and commit, for the record."""
    packages = ("scxr", "torch", "torchvision", "numpy", "lightning-fabric")
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def cpu_name() -> str:
    """Name of the processor, as far as the system tells."""
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of scxr's checkout, or None when it was installed without one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def remove_leftovers(folder: Path) -> None:
    """Remove what a kill left in a run folder: unfinished files, the state of a finished run."""
    names = ("config.json", "log.jsonl", "resume", "method", "encoder", "step_")
    # safetensors writes to a file of its own first, .tmp and six more characters.
    patterns = [*(f".{name}*" for name in names), ".tmp*"]
    for pattern in patterns:
        for file in [*folder.glob(pattern), *folder.glob(f"snapshots/{pattern}")]:
            file.unlink()
    if (folder / "encoder.safetensors").is_file():
        (folder / "resume.safetensors").unlink(missing_ok=True)
