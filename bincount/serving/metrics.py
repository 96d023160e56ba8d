"""Metrics of the server for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics", "ServerState"]

disable_created_metrics()  # a gauge beside each counter, which nothing reads

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PHOTOS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SHARES = tuple(tenth / 10 for tenth in range(1, 11))


class Metrics:
    """Counters of the listener; each server has its own registry."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        self._registry = own
        labels = ("version", "status")
        self._requests = Counter("bincount_requests", "Requests for counts.", labels, registry=own)
        self._counts = Counter("bincount_predictions", "Photos by predicted count.", ("version", "count"), registry=own)
        self._seconds = Histogram("bincount_request_seconds", "Time to the answer.", buckets=_LATENCY_S, registry=own)
        self._photos = Histogram("bincount_request_photos", "Photos per request.", buckets=_PHOTOS, registry=own)
        self._confidence = Histogram(
            "bincount_confidence", "Probability of the predicted count.", buckets=_SHARES, registry=own
        )

    def request(self, version: str, status: int, seconds: float) -> None:
        """Counts an answer to a request for counts; `version` is "" if no version answered."""
        self._requests.labels(version, str(status)).inc()
        self._seconds.observe(seconds)

    def predictions(self, version: str, answers: Sequence[Mapping]) -> None:
        """Counts the answers for one request's photos."""
        self._photos.observe(len(answers))
        for answer in answers:
            self._counts.labels(version, str(answer["count"])).inc()
            self._confidence.observe(answer["confidence"])

    def text(self, state: ServerState) -> str:
        """All samples in Prometheus' text format, with those of the server's present state."""
        once = CollectorRegistry(auto_describe=False)
        once.register(state)  # type: ignore[arg-type]
        return (generate_latest(self._registry) + generate_latest(once)).decode()


@dataclass(frozen=True, eq=False)  # a registry hashes it
class ServerState:
    """Samples that are read when metrics are requested, and not counted here.

    Attributes:
        in_flight: Requests being answered now.
        serving: Labels of the version that answers; empty before the first.
        refused: Versions that the alias named and that do not serve.
        swaps: Number of changes of the version that answers.
        batches: Number of batches that this version counted, by number of photos.
        log_rows: Number of rows of the log by what became of them; empty without a log.
        shadow_requests: Number of copied requests by the shadow's version and what became of them.
    """

    in_flight: int
    serving: Mapping[str, str]
    refused: int
    swaps: int
    batches: Mapping[int, int]
    log_rows: Mapping[str, int]
    shadow_requests: Mapping[tuple[str, str], int]

    def collect(self) -> Iterator[Metric]:
        """Yields the samples, as a registry of `prometheus_client` asks for them."""
        info = GaugeMetricFamily("bincount_serving_info", "The version that answers.", labels=list(self.serving))
        if self.serving:
            info.add_metric(list(self.serving.values()), 1)
        yield info
        yield GaugeMetricFamily("bincount_requests_in_flight", "Requests being answered.", value=self.in_flight)
        refused = "Versions that the alias named and that may not serve."
        yield GaugeMetricFamily("bincount_refused_versions", refused, value=self.refused)
        yield CounterMetricFamily("bincount_swaps", "Changes of the version that answers.", value=self.swaps)
        rows = CounterMetricFamily("bincount_log_rows", "Rows of the log by what became of them.", labels=["outcome"])
        for outcome, number in self.log_rows.items():
            rows.add_metric([outcome], number)
        yield rows
        copied = CounterMetricFamily(
            "bincount_shadow_requests", "Requests copied to the shadow.", labels=["version", "outcome"]
        )
        for (version, outcome), number in self.shadow_requests.items():
            copied.add_metric([version, outcome], number)
        yield copied
        cumulative = [sum(n for size, n in self.batches.items() if size <= bound) for bound in _PHOTOS]
        buckets = [(f"{float(bound)}", n) for bound, n in zip(_PHOTOS, cumulative, strict=True)]
        yield HistogramMetricFamily(
            "bincount_batch_photos",
            "Photos that the model counted together.",
            buckets=[*buckets, ("+Inf", sum(self.batches.values()))],
            sum_value=sum(size * n for size, n in self.batches.items()),
        )
