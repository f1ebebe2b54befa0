"""Named random streams: every draw says what it is for, and none depends on what was drawn before.

A run that was killed at step 500 draws at step 501 what it would have drawn anyway, because the
stream of a step is made from (seed, name, step) and not carried along as state.
"""

from __future__ import annotations

import hashlib

import torch


def seed_for(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream `names` under the run's `seed`; the same on every machine."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for the stream `names`, for example `generator(0, "views", step)`."""
    return torch.Generator().manual_seed(seed_for(seed, *names))
