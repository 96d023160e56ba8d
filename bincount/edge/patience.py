"""How long a source that does not answer is waited for."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

# While nothing has been read, what is wrong is likely an address: the user waits for the message.
BEFORE_S = 10.0
# Afterwards it is likely an outage that passes.
AFTER_S = 120.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class Patience:
    """Shared by all requests to one source: one outage is one wait, not one per request.

    Attributes:
        retries: How often something was asked again, by cause.
        has_read: Whether anything has been read yet.
    """

    def __init__(self) -> None:
        self.retries: Counter[str] = Counter()
        self.has_read = False
        self._started_s = time.monotonic()
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def note_read(self) -> None:
        """Says that something has been read."""
        self.has_read = True

    def pause(self, attempt: int, since_s: float, cause: str) -> bool:
        """Waits before another attempt, with full jitter.

        Args:
            attempt: How many attempts have failed, >= 1.
            since_s: When the first of them began (`time.monotonic`).
            cause: Why the last one failed, for `retries`.

        Returns:
            Whether to try again; False once patience is at an end or `stop` was called.
        """
        now_s = time.monotonic()
        limit_s = AFTER_S if self.has_read else BEFORE_S
        if now_s - since_s > limit_s or self._stopped.is_set():
            return False
        with self._lock:
            self.retries[cause] += 1
        # Full jitter: 32 workers that failed together must not come back together
        # (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).
        longest_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(attempt, 10))
        return not self._stopped.wait(random.uniform(0, longest_s))

    def stop(self) -> None:
        """Ends every wait at once: nobody is interested any more."""
        self._stopped.set()

    def start(self) -> None:
        """Allows waits again."""
        self._stopped.clear()
