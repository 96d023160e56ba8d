"""Which version the registry's alias names now, as far as is known."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from bincount.core.errors import BincountError

_log = logging.getLogger(__name__)

_POLL_S = 1.0


class Watch:
    """Asks the registry in a thread of its own: one that hangs holds nobody up, at the end neither.

    Attributes:
        version: What was named last, None for no version; it stays while the registry does not answer.
    """

    def __init__(self, named: Callable[[], str | None]) -> None:
        """Takes the question; it may raise a BincountError."""
        self.version: str | None = None
        self._named, self._stopped = named, threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it, without waiting for an answer that may not come."""
        self._stopped.set()

    def _run(self) -> None:
        heard = True
        while not self._stopped.is_set():
            try:
                version = self._named()
            except BincountError as error:
                if heard:
                    _log.warning("the registry does not answer, so nothing changes: %s", error)
                heard = False
            else:
                if version != self.version:
                    _log.info("the alias names %s", f"version {version}" if version else "no version")
                self.version, heard = version, True
            self._stopped.wait(_POLL_S)
