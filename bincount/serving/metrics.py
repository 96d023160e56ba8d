"""Counters in Prometheus' text format (prometheus.io/docs/instrumenting/exposition_formats, 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PHOTOS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SHARES = tuple(tenth / 10 for tenth in range(1, 11))


class Histogram:
    """How many values were at most as large as each bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Counts a value."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def lines(self, name: str) -> Iterator[str]:
        """Its samples."""
        total = 0
        for bound, count in zip([*self._bounds, "+Inf"], self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {total}"


class Metrics:
    """What the listener counts."""

    def __init__(self) -> None:
        self._requests: Tally[tuple[str, int]] = Tally()
        self._counts: Tally[tuple[str, int]] = Tally()
        self._seconds, self._photos, self._confidence = Histogram(_LATENCY_S), Histogram(_PHOTOS), Histogram(_SHARES)

    def request(self, version: str, status: int, seconds: float) -> None:
        """Counts an answer to a request for counts; `version` is "" where none gave it."""
        self._requests[version, status] += 1
        self._seconds.observe(seconds)

    def predictions(self, version: str, answers: Sequence[Mapping]) -> None:
        """Counts the answers about one request's photos."""
        self._photos.observe(len(answers))
        for answer in answers:
            self._counts[version, answer["count"]] += 1
            self._confidence.observe(answer["confidence"])

    def text(
        self, *, in_flight: int, serving: Mapping[str, str], refused: int, swaps: int, batches: Mapping[int, int]
    ) -> str:
        """All samples.

        Args:
            in_flight: Requests being answered now.
            serving: Labels of the version that answers; empty before the first.
            refused: Versions that do not serve though the alias named them.
            swaps: How often the answering version changed.
            batches: How many batches that version counted, by number of photos.
        """
        gathered = Histogram(_PHOTOS)
        for size, times in batches.items():
            gathered.observe(size, times)
        info = [f"bincount_serving_info{_labels(serving)} 1"] if serving else []
        return "\n".join(
            [
                *_head("bincount_serving_info", "gauge", "The version that answers."),
                *info,
                *_family("bincount_requests_total", "Requests for counts.", self._requests, "status"),
                *_head("bincount_requests_in_flight", "gauge", "Requests being answered."),
                f"bincount_requests_in_flight {in_flight}",
                *_histogram("bincount_request_seconds", "Time to the answer.", self._seconds),
                *_histogram("bincount_request_photos", "Photos a request.", self._photos),
                *_histogram("bincount_batch_photos", "Photos the model counted together.", gathered),
                *_family("bincount_predictions_total", "Photos by predicted count.", self._counts, "count"),
                *_histogram("bincount_confidence", "Probability of the predicted count.", self._confidence),
                *_head("bincount_refused_versions", "gauge", "Versions that the alias named and that may not serve."),
                f"bincount_refused_versions {refused}",
                *_head("bincount_swaps_total", "counter", "Changes of the version that answers."),
                f"bincount_swaps_total {swaps}",
                "",
            ]
        )


def _family(name: str, says: str, tally: Mapping[tuple[str, int], int], label: str) -> Iterable[str]:
    yield from _head(name, "counter", says)
    for (version, value), times in sorted(tally.items()):
        yield f"{name}{_labels({'version': version, label: str(value)})} {times}"


def _histogram(name: str, says: str, histogram: Histogram) -> Iterable[str]:
    return [*_head(name, "histogram", says), *histogram.lines(name)]


def _head(name: str, kind: str, says: str) -> list[str]:
    return [f"# HELP {name} {says}", f"# TYPE {name} {kind}"]


def _labels(labels: Mapping[str, str]) -> str:
    # Versions, digests, aliases and numbers: nothing that must be escaped.
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
