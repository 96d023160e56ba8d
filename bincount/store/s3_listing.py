"""Lists a bucket: ten stretches of keys at the same time, each page by page."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from bincount.store.interface import ListedObject
from bincount.store.s3_connection import Connection

_PAGE = 1000
# Pages held ready: 32 x 1,000 entries of some 250 bytes.
_AHEAD = 32

Retried = Callable[[Callable[[], Any]], Any]


def list_pages(connection: Connection, bucket: str, prefix: str, retried: Retried) -> Iterator[list[ListedObject]]:
    """Lists the objects below a prefix that ends in "/", in no particular order.

    Ids start with a digit, so a stretch from each digit to the next shares the
    waiting among ten requests at a time.

    Args:
        connection: The bucket's clients.
        bucket: Its name.
        prefix: Such as "bin-images/".
        retried: Calls what it is given, again where that may help.
    """
    bounds = [prefix, *(f"{prefix}{digit}" for digit in range(1, 10)), ""]
    pages: queue.Queue[list[ListedObject] | Exception | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: list[ListedObject] | Exception | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                pages.put(item, timeout=0.2)
                return

    def list_stretch(after: str, until: str) -> None:
        try:
            for page in _stretch(connection, bucket, prefix, after, until, retried):
                put(page)
                if stopped.is_set():
                    return
            put(None)
        except Exception as error:  # raised again by the thread that reads the pages
            put(error)

    with ThreadPoolExecutor(len(bounds) - 1, thread_name_prefix="list") as pool:
        try:
            for after, until in itertools.pairwise(bounds):
                pool.submit(list_stretch, after, until)
            open_stretches = len(bounds) - 1
            while open_stretches:
                page = pages.get()
                if isinstance(page, Exception):
                    raise page
                if page is None:
                    open_stretches -= 1
                else:
                    yield page
        finally:
            stopped.set()


def _stretch(
    connection: Connection, bucket: str, prefix: str, after: str, until: str, retried: Retried
) -> Iterator[list[ListedObject]]:
    """Pages of the keys behind `after` and, if `until` is not empty, before `until`."""
    from obstore.exceptions import InvalidPathError

    ask = _ask_obstore
    while True:
        try:
            page = retried(partial(ask, connection, bucket, prefix, after))
        except InvalidPathError:
            # obstore refuses a whole page for one key such as "bin-images/a//b".
            ask = _ask_boto3
            continue
        inside = [entry for entry in page if not until or entry.key < until]
        if inside:
            yield inside
        if len(inside) < len(page) or len(page) < _PAGE:
            return
        after = page[-1].key


def _ask_obstore(connection: Connection, bucket: str, prefix: str, after: str) -> list[ListedObject]:
    import obstore

    page = next(iter(obstore.list(connection.bulk, prefix.rstrip("/"), offset=after, chunk_size=_PAGE)), [])
    return [ListedObject(entry["path"], entry["size"], (entry["e_tag"] or "").strip('"')) for entry in page]


def _ask_boto3(connection: Connection, bucket: str, prefix: str, after: str) -> list[ListedObject]:
    page = connection.client.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=after, MaxKeys=_PAGE)
    return [
        ListedObject(entry["Key"], entry["Size"], entry.get("ETag", "").strip('"'))
        for entry in page.get("Contents", [])
    ]
