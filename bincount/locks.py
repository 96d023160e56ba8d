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
def exclusive_lock(path: Path, what: str, *, patience_s: float = math.inf) -> Iterator[None]:
    """Keeps others that share the workspace from doing the same at the same time: they wait.

    Args:
        path: The file that is held; the kernel lets go of it when the process ends, however it does.
        what: What is being done, for log and message.
        patience_s: How long to wait for somebody else.

    Raises:
        StoreError: If somebody else has been at it all that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        began, told = time.monotonic(), False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - began > patience_s:
                    raise StoreError(
                        f"{what}: must be done by one at a time, got another for {patience_s:.0f} s. "
                        f"See who holds {path}."
                    ) from None
                if not told:
                    _log.info("%s: waiting, another process does the same (%s)", what, path)
                told = True
                time.sleep(0.05)
        yield
