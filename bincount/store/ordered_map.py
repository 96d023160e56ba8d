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
# Tasks under way or ready, by worker: 2 x 256 x 2 objects of 57 kB are 58 MB.
_AHEAD = 2


def ordered_map(
    call: Callable[[_T], _R], items: Iterable[_T], *, workers: int, stopped: threading.Event
) -> Generator[_R, None, None]:
    """Calls a function in threads and yields its results in the order of the items.

    A result that comes early waits for those before it; no more than four times
    `workers` items are taken ahead of the reader.

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
    try:
        while True:
            for batch in itertools.islice(batches, _AHEAD * workers - len(ahead)):
                ahead.append(pool.submit(lambda batch: [call(item) for item in batch], batch))
            if not ahead:
                return
            yield from ahead.popleft().result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
