"""Photos of requests that come at the same time are counted together."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from bincount.errors import RowError, StoreError

# Clients answered together ask again together, on a busy machine some later than others. Waiting for them a tenth of
# the time that a batch takes costs less than a batch that is half full.
_GATHER_SHARE, _GATHER_S = 0.1, 0.003
_LINGER_S = 1.0  # an idle thread ends, so that a model nobody uses any more can be freed


class Batcher:
    """Gathers photos of concurrent requests into batches and takes turns between requests.

    On a processor a half-filled batch costs nearly as much as a full one, on a
    GPU filling up is free. Which of the two holds is measured once, at load.

    Attributes:
        sizes: How many batches there were by number of photos.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[bytes]], np.ndarray],
        shapes: Iterable[int],
        example: bytes,
        *,
        timeout_s: float,
    ) -> None:
        """Times the predictor at each batch shape, which warms it up.

        Args:
            predict: Photos to probabilities (N, C); raises RowError.
            shapes: Batch sizes it is compiled for, ascending.
            example: A photo to time it with.
            timeout_s: Photos that waited longer are not counted: nobody waits for them any more.
        """
        self.sizes: Counter[int] = Counter()
        self._predict = predict
        self._timeout_s = timeout_s
        self._seconds = {shape: min(_timed(predict, [example] * shape) for _ in range(2)) for shape in shapes}
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def predict(self, photos: Sequence[bytes]) -> np.ndarray:
        """Counts the items in one request's photos; many threads may ask at once.

        Returns:
            Probabilities (N, C) float32.

        Raises:
            RowError: If a photo cannot be decoded.
            StoreError: If it waited too long.
        """
        request = _Request(photos, time.monotonic() + self._timeout_s)
        with self._changed:
            self._waiting.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
                self._thread.start()
            self._changed.notify()
        request.done.wait()
        if request.error is not None:
            raise request.error
        return np.stack([request.answers[row] for row in range(len(photos))])

    def _run(self) -> None:
        last = 1
        while batch := self._gather(last):
            last = len(batch)
            self.sizes[last] += 1
            try:
                self._answer(batch)
            except Exception as error:  # whatever it is, those who wait must hear of it
                for request, _ in batch:
                    request.fail(error)

    def _gather(self, last: int) -> list[tuple[_Request, int]]:
        """The next photos, each with its request and row; none once nothing has come for a while."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, _LINGER_S):
                self._thread = None
                return []
            if last > 1:
                takes_s = next((s for shape, s in self._seconds.items() if shape >= last), 0.0)
                self._changed.wait_for(lambda: self._left() >= last, max(_GATHER_S, _GATHER_SHARE * takes_s))
            now = time.monotonic()
            for request in [each for each in self._waiting if each.until < now or each.done.is_set()]:
                request.fail(StoreError("server: a photo must be counted in time, got too many at once. Ask later."))
                self._waiting.remove(request)
            batch: list[tuple[_Request, int]] = []
            size = self._best_size(self._left()) if self._waiting else 0
            while self._waiting and len(batch) < size:
                request = self._waiting.popleft()
                batch.append((request, request.rows.popleft()))
                if request.rows:
                    self._waiting.append(request)  # to the end: one with many photos must not keep the others waiting
        return batch or self._gather(1)

    def _left(self) -> int:
        return sum(len(request.rows) for request in self._waiting)

    def _best_size(self, waiting: int) -> int:
        """The batch shape at which a photo takes least time."""
        return min(self._seconds, key=lambda shape: self._seconds[shape] / min(shape, waiting))

    def _answer(self, batch: list[tuple[_Request, int]]) -> None:
        try:
            answers = self._predict([request.photos[row] for request, row in batch])
        except RowError as error:
            requests = {id(request): request for request, _ in batch}.values()
            if len(requests) > 1:  # one request's bad photo must not fail the others
                for request in requests:
                    self._answer([pair for pair in batch if pair[0] is request])
                return
            rows = [row for _, row in batch]
            batch[0][0].fail(RowError(rows[error.row], error.message))
            return
        for (request, row), answer in zip(batch, answers, strict=True):
            request.answer(row, answer)


class _Request:
    """One request's photos; `rows` are those that no batch has taken yet."""

    def __init__(self, photos: Sequence[bytes], until: float) -> None:
        self.photos, self.until = photos, until
        self.rows = deque(range(len(photos)))
        self.answers: dict[int, np.ndarray] = {}
        self.error: Exception | None = None
        self.done = threading.Event()

    def answer(self, row: int, answer: np.ndarray) -> None:
        self.answers[row] = answer
        if len(self.answers) == len(self.photos):
            self.done.set()

    def fail(self, error: Exception) -> None:
        if not self.done.is_set():
            self.error = error
            self.done.set()


def _timed(predict: Callable[[Sequence[bytes]], np.ndarray], photos: list[bytes]) -> float:
    started = time.perf_counter()
    predict(photos)
    return time.perf_counter() - started
