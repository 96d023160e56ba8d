"""What is written to a run in MLflow, and read back; by explicit id, never by a global "active run"."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bincount.edge.mlflow_door import door, short_waits
from bincount.edge.settings import Settings

# MLflow's limits for one request.
_PARAMS_A_BATCH, _METRICS_A_BATCH = 100, 1000


def log_params(settings: Settings, run_id: str, params: Mapping[str, object]) -> None:
    """Writes a run's parameters; writing the same ones again changes nothing.

    Raises:
        ConfigError: If one of them is already written with another value.
        StoreError: If the tracking server does not answer.
    """
    with door(settings, f"params of run {run_id}") as client:
        from mlflow.entities import Param

        for batch in _batches([Param(key, str(value)) for key, value in params.items()], _PARAMS_A_BATCH):
            client.log_batch(run_id, params=batch)


def log_metrics(settings: Settings, run_id: str, metrics: Mapping[str, float], step: int | None = None) -> None:
    """Writes points of a run's curves, many in one request.

    Args:
        settings: Names the tracking server.
        run_id: The run.
        metrics: Value by name.
        step: Where on the curve, such as the epoch; None for a value that stands alone.
    """
    with door(settings, f"metrics of run {run_id}") as client:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        points = [Metric(key, float(value), now_ms, step or 0) for key, value in metrics.items()]
        for batch in _batches(points, _METRICS_A_BATCH):
            client.log_batch(run_id, metrics=batch)


def curves(settings: Settings, run_id: str, stages: Sequence[str]) -> dict[str, dict[int, float]]:
    """Reads a run's curves whose names start with one of some stages: value by step, the last one written.

    Args:
        settings: Names the tracking server.
        run_id: The run.
        stages: Such as "train", for "train/loss" and "train/val_nll".
    """
    with door(settings, f"curves of run {run_id}") as client:
        names = [name for name in client.get_run(run_id).data.metrics if name.split("/")[0] in stages]
        return {
            name: {
                point.step: point.value
                for point in sorted(client.get_metric_history(run_id, name), key=lambda point: point.timestamp)
            }
            for name in sorted(names)
        }


def log_tags(settings: Settings, run_id: str, tags: Mapping[str, str]) -> None:
    """Writes tags on a run, over those of the same name."""
    with door(settings, f"tags of run {run_id}") as client:
        from mlflow.entities import RunTag

        for batch in _batches([RunTag(key, str(value)) for key, value in tags.items()], _PARAMS_A_BATCH):
            client.log_batch(run_id, tags=batch)


def log_artifacts(settings: Settings, run_id: str, folder: Path, to: str | None = None) -> None:
    """Copies a folder's files to a run's artifacts, below `to`."""
    with door(settings, f"artifacts of run {run_id}", upload=True) as client:
        client.log_artifacts(run_id, str(folder), to)


def fetch_artifacts(settings: Settings, run_id: str, path: str, folder: Path) -> Path:
    """Downloads a run's artifacts below `path` and returns where they are, below `folder`."""
    with door(settings, f"{path} of run {run_id}", upload=True) as client:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(client.download_artifacts(run_id, path, str(folder)))


def log_figures(settings: Settings, run_id: str, figures: Mapping[str, Any]) -> None:
    """Draws matplotlib figures into a run's artifacts, by path such as "evaluation/confusion.png"."""
    with door(settings, f"figures of run {run_id}", upload=True) as client:
        for path, figure in figures.items():
            client.log_figure(run_id, figure, path)


def log_dict(settings: Settings, run_id: str, document: Mapping[str, Any], path: str) -> None:
    """Writes a JSON document to a run's artifacts, such as "evaluation/evaluation.json"."""
    with door(settings, f"{path} of run {run_id}", upload=True) as client:
        client.log_dict(run_id, dict(document), path)


def log_dataset(settings: Settings, run_id: str, *, digest: str, source: str, profile: str = "{}") -> None:
    """Notes which bins a run learns from; noting the same ones again changes nothing.

    Args:
        settings: Names the tracking server.
        run_id: The run.
        digest: The manifest's digest.
        source: Where the bins came from, such as "s3://aft-vbi-pds".
        profile: JSON about them, such as how many there are a part.
    """
    with door(settings, f"dataset of run {run_id}") as client:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        bins = Dataset("bins", digest, source_type="s3", source=source, profile=profile)
        client.log_inputs(run_id, [DatasetInput(bins, [InputTag("mlflow.data.context", "training")])])


@contextlib.contextmanager
def watch_machine(settings: Settings, run_id: str) -> Iterator[None]:
    """Writes processor, memory, disk and GPU use to a run, every 10 s while the block lasts."""
    with door(settings, f"run {run_id}"):
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=settings.tracking_uri)
        monitor.start()
    with short_waits():  # also for the monitor's own thread, for which its end waits
        try:
            yield
        finally:
            monitor.finish()


def run_tags(settings: Settings, run_id: str) -> dict[str, str]:
    """The tags and parameters of a run, by name; a tag hides a parameter of its name."""
    with door(settings, f"run {run_id}") as client:
        data = client.get_run(run_id).data
        return {**data.params, **data.tags}


def _batches(items: list, size: int) -> list[list]:
    return [items[at : at + size] for at in range(0, len(items), size)]
