"""When and how often a request to a store is retried."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

# Before anything was heard, an address is likely wrong: with the 6 s that a last attempt may take,
# the message comes within 15 s. Afterwards it is likely an outage that passes.
SILENT_FROM_START_S, SILENT_AFTER_ANSWER_S = 8.0, 120.0


_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0


class RetryPolicy:
    """Decides whether to ask again, and waits before it; shared by all requests to one source.

    Attributes:
        retries: How often something was asked again, by cause.
        has_heard: Whether the source has answered anything yet.
    """

    def __init__(self) -> None:
        self.retries: Counter[str] = Counter()
        self.has_heard = False
        self._lock = threading.Lock()

    def pause(self, attempt: int, since_s: float, cause: str, stopped: threading.Event) -> bool:
        """Waits before another attempt.

        Args:
            attempt: How many attempts have failed, >= 1.
            since_s: When the first of them began (`time.monotonic`).
            cause: Why the last one failed, for `retries`.
            stopped: Ends the wait at once: nobody is interested any more.

        Returns:
            Whether to try again; False once patience is at an end or `stopped` is set.
        """
        if (
            time.monotonic() - since_s > (SILENT_AFTER_ANSWER_S if self.has_heard else SILENT_FROM_START_S)
            or stopped.is_set()
        ):
            return False
        with self._lock:
            self.retries[cause] += 1
        # Full jitter: 32 workers that failed together must not come back together
        # (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).
        longest_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(attempt - 1, 10))
        return not stopped.wait(random.uniform(0, longest_s))
