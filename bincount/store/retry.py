"""The policy by which requests to a store are retried."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

# Before the first answer an address is probably wrong: with the 6 s that the last attempt may take, the error comes
# within 15 s. After it, a failure is probably an outage that passes.
UNANSWERED_S, OUTAGE_S = 8.0, 120.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0


class RetryPolicy:
    """Exponential backoff with full jitter, shared by all requests to one source.

    Attributes:
        retries: Number of retried requests by cause.
        has_answered: Whether the source has answered anything yet.
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
            Whether to retry: False after `OUTAGE_S` (`UNANSWERED_S` before the first answer) or once `stopped` is set.
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
