"""Work on parts of a batch, one core a part.

Torch by itself spreads every single operation over the cores. For the many small operations of
an augmentation that costs more than it gives, and sums then depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Part = TypeVar("Part")
Result = TypeVar("Result")


def each(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """`[work(part) for part in parts]`, spread over as many threads as torch may use.

    Every part is computed by one core, whatever the number of threads, and without gradients:
    the results are the same to the bit.
    """
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def compute(part: Part) -> Result:
        with torch.inference_mode(inference), torch.no_grad():  # each thread has its own modes
            return work(part)

    return list(map(compute, parts) if threads == 1 else _pool(threads).map(compute, parts))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "scxr", initializer=_use_one_core)


def _use_one_core() -> None:
    torch.get_num_threads()  # torch sets its own number in a new thread once; ours comes after
    threadpool_limits(1, user_api="openmp")  # OpenMP keeps this number for each thread


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork: a child process starts its own.
    os.register_at_fork(after_in_child=_pool.cache_clear)
