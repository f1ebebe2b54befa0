"""Batches read ahead: the order that was asked for, errors where they belong, no thread left."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from scxr.data import RadiographStore, StoreWriter
from scxr.data.batches import Batches

ROWS = [[4, 1], [0], [5, 2, 3], [1, 1]]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RadiographStore:
    path = tmp_path_factory.mktemp("batches") / "store"
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8)).astype(np.uint8)
    with StoreWriter(path, 8, 8, {"kind": "test"}) as writer:
        writer.add(images, [{"image": f"{i}.png", "patient": str(i)} for i in range(6)])
    return RadiographStore.open(path)


def readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "scxr-batches"]


class Watched(RadiographStore):
    """Counts its batches, and fails at one of them."""

    read: int = 0
    fails_at: int = -1
    error: BaseException = OSError("unplugged")

    def batch(self, rows):
        self.read += 1
        if self.read - 1 == self.fails_at:
            raise self.error
        return super().batch(rows)


@pytest.mark.parametrize("ahead", [1, 2, 10])
def test_batches_come_in_order_and_are_what_the_store_holds(store, ahead):
    with Batches(store, iter(ROWS), ahead=ahead) as batches:
        found = list(batches)
    assert len(found) == len(ROWS)
    for images, rows in zip(found, ROWS, strict=True):
        assert images.dtype == torch.uint8
        assert torch.equal(images, store.batch(rows))
    assert readers() == []
    assert batches.waited > 0


def test_no_more_is_read_than_was_asked_to_be_kept_ready(store):
    watched = Watched.open(store.path)
    with Batches(watched, [[0]] * 50, ahead=3) as batches:
        next(batches)
        for _ in range(200):
            if watched.read == 4:
                break
            time.sleep(0.01)
        time.sleep(0.05)  # a reader that does not stop would go on here
        assert watched.read == 4  # the one that was taken and the three ahead of it


@pytest.mark.parametrize("error", [OSError("unplugged"), KeyboardInterrupt(), SystemExit(3)])
def test_what_goes_wrong_is_raised_where_its_batch_would_have_come(store, error):
    watched = Watched.open(store.path)
    watched.fails_at, watched.error = 2, error
    with Batches(watched, ROWS) as batches:
        assert torch.equal(next(batches), store.batch(ROWS[0]))
        assert torch.equal(next(batches), store.batch(ROWS[1]))
        with pytest.raises(type(error)) as raised:
            next(batches)
        assert raised.value is error
        assert readers() == []
        with pytest.raises(StopIteration):
            next(batches)


def test_rows_outside_the_store_and_rows_that_fail_are_errors_of_their_batch(store):
    def rows():
        yield [0]
        raise ValueError("no more rows")

    with Batches(store, [[0], [6]]) as batches:
        next(batches)
        with pytest.raises(IndexError, match="out of range"):
            next(batches)
    with Batches(store, rows()) as batches:
        next(batches)
        with pytest.raises(ValueError, match="no more rows"):
            next(batches)
    assert readers() == []


def test_leaving_early_leaves_no_thread_behind(store):
    endless = ([step % 6] for step in range(10**9))
    with pytest.raises(KeyboardInterrupt), Batches(store, endless) as batches:
        next(batches)
        assert len(readers()) == 1
        raise KeyboardInterrupt
    assert readers() == []
    batches.close()  # twice is once
    with pytest.raises(StopIteration):
        next(batches)


def test_nothing_is_read_before_it_is_asked_for(store):
    watched = Watched.open(store.path)
    with Batches(watched, ROWS):
        assert readers() == []
    assert watched.read == 0
    with Batches(watched, []) as batches:
        assert list(batches) == []


def test_waiting_is_counted_while_the_disk_is_slow(store):
    class Slow(RadiographStore):
        def batch(self, rows):
            time.sleep(0.05)
            return super().batch(rows)

    with Batches(Slow.open(store.path), [[0]] * 4) as batches:
        started = time.perf_counter()
        for _ in batches:
            pass
        total = time.perf_counter() - started
    assert 0.15 < batches.waited <= total


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_stream_of_its_own_copies_from_pinned_memory(store):
    rows = [[i % 6, (i + 1) % 6] for i in range(64)]
    with Batches(store, rows, "cuda") as batches:
        for images, expected in zip(batches, rows, strict=True):
            assert images.is_cuda
            # Work of the step is queued before the next batch's copy may reuse the memory.
            doubled = images.float() * 2
            del images
            assert torch.equal(doubled.cpu(), store.batch(expected).float() * 2)
