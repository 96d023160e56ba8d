"""Lists a bucket in ten ranges of keys at the same time, each page by page."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bincount.errors import DataError
from bincount.store.interface import ListedObject
from bincount.store.s3_connection import Connection

_PAGE = 1000
# Pages held ready: 32 x 1,000 entries of some 250 bytes.
_AHEAD = 32

WithRetries = Callable[[Callable[[], Any], threading.Event], Any]
_Pages = Iterator[list[ListedObject]]


def list_pages(connection: Connection, bucket: str, prefix: str, with_retries: WithRetries) -> _Pages:
    """Lists the objects below a prefix that ends in "/", in no particular order.

    Ids start with a digit, so ranges from each digit to the next share the work
    among ten requests at a time. Continuation tokens are followed; a server
    that ignores `start-after` is listed in full by each range, which then drops
    the keys of the others.

    Args:
        connection: The bucket's clients.
        bucket: Its name.
        prefix: Such as "bin-images/".
        with_retries: Calls a function, again where that may help, until an event is set.

    Raises:
        DataError: If a page comes twice: the listing would never end.
    """
    bounds = [prefix, *(f"{prefix}{digit}" for digit in range(1, 10)), ""]
    pages: queue.Queue[list[ListedObject] | BaseException | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: list[ListedObject] | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                pages.put(item, timeout=0.2)
                return

    def list_range(after: str, until: str) -> None:
        try:
            for page in _range(connection, bucket, prefix, after, until, with_retries, stopped):
                put(page)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:  # raised again by the thread that reads the pages
            put(error)

    pool = ThreadPoolExecutor(len(bounds) - 1, thread_name_prefix="list")
    try:
        for after, until in itertools.pairwise(bounds):
            pool.submit(list_range, after, until)
        open_ranges = len(bounds) - 1
        while open_ranges:
            page = pages.get()
            if isinstance(page, BaseException):
                raise page
            if page is None:
                open_ranges -= 1
            else:
                yield page
    finally:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _range(
    connection: Connection,
    bucket: str,
    prefix: str,
    after: str,
    until: str,
    with_retries: WithRetries,
    stopped: threading.Event,
) -> _Pages:
    """Pages of the keys after `after` and, if `until` is not empty, before `until`."""
    from obstore.exceptions import InvalidPathError

    open_listing: Callable[..., _Pages] = _obstore_pages
    listing: _Pages | None = None
    last, previous = after, ""

    def next_page() -> list[ListedObject] | None:
        nonlocal listing, previous
        if listing is None:  # at first, and after an error: from the last key that was read
            listing, previous = open_listing(connection, bucket, prefix, last), ""
        try:
            return next(listing, None)
        except BaseException:
            listing = None
            raise

    while True:
        try:
            page = with_retries(next_page, stopped)
        except InvalidPathError:
            # obstore refuses a whole page for one key such as "bin-images/a//b".
            open_listing = _boto3_pages
            continue
        if page is None:
            return
        end = page[-1].key if page else ""
        if end <= previous:
            raise DataError(f"s3://{bucket}/{prefix}: a listing must progress, got the page up to {end!r} twice.")
        previous = end
        fresh = [entry for entry in page if entry.key > last]
        inside = [entry for entry in fresh if not until or entry.key < until]
        if inside:
            yield inside
        if len(inside) < len(fresh):
            return
        last = max(last, end)


def _obstore_pages(connection: Connection, bucket: str, prefix: str, after: str) -> _Pages:
    import obstore

    # Without an offset for the first range: one that sorts before the prefix lists nothing on strict servers.
    offset = after if after != prefix else None
    for page in obstore.list(connection.bulk, prefix.rstrip("/"), offset=offset, chunk_size=_PAGE):
        yield [ListedObject(entry["path"], entry["size"], (entry["e_tag"] or "").strip('"')) for entry in page]


def _boto3_pages(connection: Connection, bucket: str, prefix: str, after: str) -> _Pages:
    start = {} if after == prefix else {"StartAfter": after}
    pages = connection.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **start)
    for page in pages:
        found = page.get("Contents", [])
        if found:  # S3 may send an empty page with a token
            yield [ListedObject(entry["Key"], entry["Size"], entry.get("ETag", "").strip('"')) for entry in found]
