"""An S3 bucket as a store: on AWS or on any server that speaks S3."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from bincount.errors import BincountError, ConfigError, StoreError
from bincount.settings import Settings
from bincount.store.interface import MAX_OBJECT_BYTES, FetchedObject, ListedObject
from bincount.store.s3_connection import Connection, ask_region, check_bucket_name, connect
from bincount.store.s3_errors import is_denied, retry_cause, translate
from bincount.store.s3_listing import list_pages

if TYPE_CHECKING:
    import obstore.store

_T = TypeVar("_T")
_R = TypeVar("_R")

# How long a failed request is repeated. Until the bucket has answered once (`connect` is the first request), its
# address is probably wrong: an attempt that fails more than 8 s after the first one began is not repeated. An attempt
# takes about 6 s at most, so the error comes within 15 s. After that answer a failure is probably a passing outage.
UNANSWERED_S, OUTAGE_S = 8.0, 120.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0

# Items of one task: passing single ones costs the threads as much as reading them.
_BATCH = 2
# Tasks running or finished, by worker: 2 x 256 x 2 objects of 57 kB are 58 MB.
_AHEAD = 2


class S3Store:
    """A bucket, or the objects below a prefix of it.

    Attributes:
        source: As in `Store`.
        prefix: What the key of each of its objects begins with.
    """

    def __init__(self, source: str, settings: Settings) -> None:
        self._bucket, _, prefix = source.removeprefix("s3://").partition("/")
        check_bucket_name(self._bucket)
        prefix = prefix.strip("/")
        self.source = f"s3://{self._bucket}/{prefix}".rstrip("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self._endpoint = settings.buckets.get(self._bucket)
        self._policy = RetryPolicy()
        self._has_read = False
        self._connection: Connection | None = None
        self._opening = threading.Lock()

    @property
    def retries(self) -> Mapping[str, int]:
        """Number of retried requests by cause."""
        return self._policy.retries

    def pages(self, prefix: str) -> Iterator[list[ListedObject]]:
        """Lists the objects below a prefix, page by page."""
        start = len(self.prefix)
        for page in list_pages(self._open(), self._bucket, self.prefix + prefix, self._with_retries):
            yield [ListedObject(entry.key[start:], entry.size_bytes, entry.tag) for entry in page]

    def fetch(self, keys: Iterable[str], *, workers: int) -> Generator[FetchedObject, None, None]:
        """Reads objects, many at a time, in the order of `keys`."""
        bulk = self._open().bulk
        stopped = threading.Event()
        return ordered_map(lambda key: self._read(bulk, key, stopped), keys, workers=workers, stopped=stopped)

    def request(self, ask: Callable[[obstore.store.S3Store], _T], stopped: threading.Event | None = None) -> _T:
        """Makes one request with obstore's client, again where that may help and until `stopped` is set.

        Raises:
            ConfigError: If it is denied, or the bucket is full or does not exist.
            StoreError: If the bucket does not answer.
        """
        connection = self._open()
        return self._with_retries(lambda: ask(connection.files), stopped or threading.Event(), written=True)

    def _read(self, bulk: obstore.store.S3Store, key: str, stopped: threading.Event) -> FetchedObject:
        import obstore
        from obstore.exceptions import BaseError

        since_s, attempt = time.monotonic(), 0
        while True:
            try:
                answer = obstore.get(bulk, self.prefix + key)
                facts = answer.meta
                if facts["size"] > MAX_OBJECT_BYTES:
                    return FetchedObject(key, None, problem="too large")
                data = bytes(answer.bytes())
                self._has_read = True
                return FetchedObject(key, data, (facts["e_tag"] or "").strip('"'))
            except FileNotFoundError:
                return FetchedObject(key, None, problem="missing")
            except BaseError as error:
                if is_denied(error):
                    return self._denied(key, error)
                attempt += 1
                if not self._policy.wait(attempt, since_s, retry_cause(error), stopped):
                    return self._given_up(key, f"{retry_cause(error)}, {attempt} times in a row", error, stopped)

    def _denied(self, key: str, error: Exception) -> FetchedObject:
        if self._has_read:
            return FetchedObject(key, None, problem="denied")
        raise ConfigError(
            f"{self.source}: objects must be readable, got access denied ({retry_cause(error)}) for {key!r}. "
            "Check the credentials; a public bucket is read without any."
        ) from error

    def _given_up(self, key: str, found: str, error: Exception, stopped: threading.Event) -> FetchedObject:
        """Distinguishes one object that cannot be had from a bucket that does not answer."""
        if self._has_read and not stopped.is_set():
            with contextlib.suppress(Exception):
                ask_region(self._open().client, self._bucket)
                return FetchedObject(key, None, problem="not readable")
        raise StoreError(
            f"{self.source}: must answer, got {found} for {key!r}. Run again later; what was read is kept."
        ) from error

    def _open(self) -> Connection:
        with self._opening:
            if self._connection is None:
                self._connection = self._with_retries(lambda: connect(self._bucket, self._endpoint), threading.Event())
            return self._connection

    def _with_retries(self, request: Callable[[], _T], stopped: threading.Event, *, written: bool = False) -> _T:
        """Makes a request, again where that may help and until `stopped` is set."""
        since_s, attempt = time.monotonic(), 0
        while True:
            try:
                answer = request()
                self._policy.has_answered = True
                return answer
            except Exception as error:
                translated: BincountError = translate(error, self.source, self._endpoint, written=written)
                attempt += 1
                is_temporary = isinstance(translated, StoreError)
                if not is_temporary or not self._policy.wait(attempt, since_s, retry_cause(error), stopped):
                    raise translated from error


class RetryPolicy:
    """Exponential backoff with full jitter, shared by all requests to one source.

    Attributes:
        retries: Number of retried requests by cause.
        has_answered: Whether any request has succeeded yet; `connect`, which opens the clients, is the first.
    """

    def __init__(self) -> None:
        self.retries: Counter[str] = Counter()
        self.has_answered = False
        self._lock = threading.Lock()

    def wait(self, attempt: int, since_s: float, cause: str, stopped: threading.Event) -> bool:
        """Waits before another attempt.

        Args:
            attempt: Number of failed attempts, >= 1.
            since_s: When the first of them began (`time.monotonic`).
            cause: Why the last one failed, for `retries`.
            stopped: Ends the wait at once.

        Returns:
            Whether to retry: False once `stopped` is set, or if the first attempt began more than `OUTAGE_S` ago
            (`UNANSWERED_S` where the source has not answered yet).
        """
        limit_s = OUTAGE_S if self.has_answered else UNANSWERED_S
        if time.monotonic() - since_s > limit_s or stopped.is_set():
            return False
        with self._lock:
            self.retries[cause] += 1
        # Full jitter: requests that failed together must not come back together
        # (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).
        longest_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(attempt - 1, 10))
        return not stopped.wait(random.uniform(0, longest_s))


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
