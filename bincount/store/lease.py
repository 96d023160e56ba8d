"""A lease: a lock in a bucket that expires when its holder dies.

The lock is one object that its holder writes anew every few seconds. Whoever waits takes it over once it has not
changed for `LEASE_S` by his own clock, so clocks need not agree. Every write is conditional on the object that was
read before, so of two that take it one succeeds.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bincount.errors import BincountError, StoreError

if TYPE_CHECKING:
    import obstore.store

_log = logging.getLogger(__name__)

LEASE_S = 60.0
"""How long a lease outlives its holder."""
_POLL_S = 1.0


class Lease:
    """One worker's turn at something that one worker does at a time.

    Attributes:
        number: Grows by one with every holder; 0 while it is not held.
    """

    def __init__(self, request: Callable[..., Any], key: str, what: str, *, timeout_s: float = math.inf) -> None:
        """Acquires nothing yet.

        Args:
            request: Calls a function of the bucket, again where that may help and until an event is set.
            key: The object.
            what: What is done, for log and error.
            timeout_s: How long to wait for another holder.
        """
        self._request, self._key, self._what, self._timeout_s = request, key, what, timeout_s
        self._holder = f"{socket.gethostname()}, process {os.getpid()}, {uuid4().hex[:8]}"
        self.number = 0
        self._etag = ""
        self._renewed_s = -math.inf
        self._lost = False
        self._writing = threading.Lock()
        self._stopped = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Acquires it, renews it in the background, and releases it.

        Raises:
            StoreError: If another worker holds it for `timeout_s`.
        """
        self._acquire()
        renewing = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            self._stopped.set()
            renewing.join()
            if not self._lost:
                with contextlib.suppress(BincountError):  # then it expires
                    self._write("", self.number, {"e_tag": self._etag})

    def check(self) -> None:
        """Checks that it is still held; one that expired while the bucket or this machine was away is renewed.

        Raises:
            ConfigError: If it cannot be renewed.
            StoreError: If another worker has it, or it cannot be renewed.
        """
        if not self._lost and _clock_s() - self._renewed_s > LEASE_S:
            self._renew()
        if self._lost:
            raise StoreError(
                f"{self._what}: this worker did not renew its lease for {LEASE_S:.0f} s, so another may do the same "
                "by now. Nothing more was written; run again."
            )

    def _acquire(self) -> None:
        began_s, seen, since_s, is_logged = _clock_s(), "", 0.0, False
        while True:
            asked_s = _clock_s()
            found = self._read()
            was_away = _clock_s() - asked_s > LEASE_S / 4  # then the holder could not renew it either
            if found is None:
                if self._write(self._holder, 1, "create"):
                    return
                continue
            etag, content = found
            if content["holder"] == self._holder:  # an earlier try came through without its answer
                self._etag, self.number, self._renewed_s = etag, content["number"], began_s
                return
            if etag != seen or was_away:
                seen, since_s = etag, _clock_s()
            if not content["holder"] or _clock_s() - since_s > LEASE_S:
                if content["holder"]:
                    _log.warning("%s: the lease of %s has expired; taking it over", self._what, content["holder"])
                if self._write(self._holder, content["number"] + 1, {"e_tag": etag}):
                    return
                continue
            if _clock_s() - began_s > self._timeout_s:
                raise StoreError(
                    f"{self._what}: must be done by one at a time, got another for {self._timeout_s:.0f} s: "
                    f"{content['holder']}."
                )
            if not is_logged:
                _log.info("%s: waiting, another worker does the same (%s)", self._what, content["holder"])
            is_logged = True
            time.sleep(min(_POLL_S, LEASE_S / 10))

    def _keep_renewing(self) -> None:
        while not self._stopped.wait(LEASE_S / 4) and not self._lost:
            try:
                self._renew()
            except Exception as error:  # the next try may succeed; `check` knows how long it has been
                _log.warning("%s: the lease could not be renewed: %s", self._what, error)

    def _renew(self) -> None:
        """Writes it anew, which succeeds only if nobody else has taken it."""
        with self._writing:
            if not self._lost and not self._write(self._holder, self.number, {"e_tag": self._etag}):
                self._lost = True

    def _read(self) -> tuple[str, dict[str, Any]] | None:
        import obstore

        def ask(bulk: obstore.store.S3Store) -> tuple[str, dict[str, Any]] | None:
            try:
                answer = obstore.get(bulk, self._key)
            except FileNotFoundError:
                return None
            return str(answer.meta["e_tag"]), json.loads(bytes(answer.bytes()))

        return self._request(ask, self._stopped)

    def _write(self, holder: str, number: int, mode: Any) -> bool:
        """Writes it if it is still what was read; returns whether it was."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        content = json.dumps({"holder": holder, "number": number, "nonce": uuid4().hex}).encode()

        def ask(bulk: obstore.store.S3Store) -> tuple[str, float] | None:
            asked_s = _clock_s()
            try:
                return str(obstore.put(bulk, self._key, content, mode=mode)["e_tag"]), asked_s
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return None

        answer = self._request(ask, self._stopped)
        if answer is None:
            found = self._read()  # an earlier try of this very write may have come through without its answer
            if found is None or found[1]["holder"] != holder or not holder or found[1]["number"] != number:
                return False
            answer = found[0], self._renewed_s
        self._etag, self._renewed_s = answer
        self.number = number
        return True


def _clock_s() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
