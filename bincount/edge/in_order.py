"""Many calls at a time, their results in the order of what they were called with."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

# Items of one task: handing over single ones costs the threads as much as reading them.
_TOGETHER = 2
# Tasks under way or ready: at first, and at most by worker (2 x 128 x 2 objects of 57 kB are 29 MB).
_LEAST, _MOST = 8, 2


def map_in_order(
    call: Callable[[_T], _R], items: Iterable[_T], *, workers: int, stopped: threading.Event
) -> Generator[_R, None, None]:
    """Calls a function in threads and yields its results in the order of the items.

    As many calls are under way as it takes to keep the reader busy: more where
    answers take long, few where the reader is the slower one, since threads that
    have nothing to do take the interpreter from it.

    Args:
        call: What to call with each item.
        items: Taken from as they are needed.
        workers: How many calls at a time at most, >= 1.
        stopped: Set once nobody reads any more, for calls that wait.
    """
    remaining = iter(items)
    together = min(_TOGETHER, workers)
    batches = iter(lambda: list(itertools.islice(remaining, together)), [])
    pool = ThreadPoolExecutor(workers, thread_name_prefix="in-order")
    ahead: deque[Future[list[_R]]] = deque()
    window = min(_LEAST, workers)
    try:
        while True:
            for batch in itertools.islice(batches, max(0, window - len(ahead))):
                ahead.append(pool.submit(lambda batch: [call(item) for item in batch], batch))
            if not ahead:
                return
            window = _fit(window, ahead, min(_LEAST, workers), _MOST * workers)
            yield from ahead.popleft().result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _fit(window: int, ahead: deque[Future[list[_R]]], least: int, most: int) -> int:
    """One task more where the next result is waited for, one fewer where all of them are ready."""
    if not ahead[0].done():
        return min(most, window + 1)
    return max(least, window - 1) if ahead[-1].done() else window
