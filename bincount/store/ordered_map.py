"""Concurrent calls whose results come in the order of their arguments."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

# Items of one task: passing single ones costs the threads as much as reading them.
_BATCH = 2
# Tasks running or finished, by worker: 2 x 256 x 2 objects of 57 kB are 58 MB.
_AHEAD = 2


def ordered_map(
    call: Callable[[_T], _R], items: Iterable[_T], *, workers: int, stopped: threading.Event
) -> Generator[_R, None, None]:
    """Calls a function in threads and yields its results in the order of the items.

    At most four times `workers` items are taken ahead of the reader. When the
    reader stops, `stopped` is set and running calls are not waited for.

    Args:
        call: Called with each item.
        items: Consumed as they are needed.
        workers: Number of concurrent calls, >= 1.
        stopped: Set when nobody reads any more, for calls that wait.
    """
    remaining = iter(items)
    batches = iter(lambda: list(itertools.islice(remaining, min(_BATCH, workers))), [])
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ordered-map")
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
        pool.shutdown(wait=False, cancel_futures=True)
