"""`scxr …`: parses and calls. Every command says what it did, or one JSON document with --json.

Results go to standard output, progress and messages to standard error. What a user can put right
ends with one sentence and exit code 2. Heavy imports (torch) live inside the commands, so that
`scxr --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes

from scxr.cli.answers import Answer, Command, facts
from scxr.cli.benchmarks import Bench
from scxr.cli.data import Data
from scxr.cli.evaluation import Evaluate, Explain, Published, Reconstruct
from scxr.cli.memory import Memory
from scxr.cli.training import Collapse, Export, Pretrain
from scxr.errors import InputError


@dataclass
class Doctor(Command):
    """Say what this machine offers: versions, device, precision, threads, free disk."""

    def __call__(self) -> Answer:
        from scxr.doctor import examine

        return facts(examine())


COMMANDS: dict[str, Callable[..., Any]] = {
    "doctor": Doctor,
    "data": Data,
    "pretrain": Pretrain,
    "collapse": Collapse,
    "export": Export,
    "evaluate": Evaluate,
    "explain": Explain,
    "reconstruct": Reconstruct,
    "memory": Memory,
    "published": Published,
    "bench": Bench,
}


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `scxr`; leaves with 0, or with 2 and one sentence on standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    warnings.simplefilter("ignore")  # libraries' notes are for us, not for the person at the shell
    parsed = tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        prog="scxr",
        description="Self-supervised pretraining for chest radiographs when labels are scarce.",
        args=arguments,
        config=(OmitArgPrefixes, OmitSubcommandPrefixes, FlagCreatePairsOff),
    )
    command: Command = parsed.command if isinstance(parsed, Data | Bench) else parsed
    command.typed = shlex.join(["scxr", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        answer = command()
    except InputError as error:
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        sys.exit(_fail("Interrupted."))
    text = json.dumps(answer.data, indent=2, allow_nan=False) if command.json else answer.text
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(sentence: str) -> int:
    print(f"scxr: {sentence}", file=sys.stderr)
    return 2
