"""Locks between processes that share a workspace."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

from bincount.errors import StoreError

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def exclusive_lock(path: Path, what: str, *, timeout_s: float = math.inf) -> Iterator[None]:
    """Holds a lock that other processes on the same workspace wait for.

    Args:
        path: The lock file; the kernel releases the lock when the process ends, also when it is killed.
        what: What the lock protects, for log and error.
        timeout_s: How long to wait for another process.

    Raises:
        StoreError: If another process holds the lock all that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        began, is_logged = time.monotonic(), False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - began > timeout_s:
                    raise StoreError(
                        f"{what}: must be done by one at a time, got another for {timeout_s:.0f} s. "
                        f"See who holds {path}."
                    ) from None
                if not is_logged:
                    _log.info("%s: waiting, another process does the same (%s)", what, path)
                is_logged = True
                time.sleep(0.05)
        yield
