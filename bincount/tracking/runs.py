"""Runs in MLflow: opened, reopened and closed by explicit id, never by a global "active run"."""

from __future__ import annotations

import contextlib
import getpass
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bincount.errors import BincountError, ConfigError
from bincount.settings import CHECKOUT, Settings
from bincount.tracking import model_registry
from bincount.tracking.client import EXPERIMENT, experiment_id_of, mlflow_client, short_timeouts

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ATTEMPT = "bincount.attempt"
_PARENT = "mlflow.parentRunId"


def open_run(
    settings: Settings,
    *,
    attempt: str | None = None,
    experiment: str = EXPERIMENT,
) -> str:
    """Opens a run of an experiment, or reopens the attempt's run.

    It has the commit of this checkout, if there is one, and the user as tags.

    Args:
        settings: Names the tracking server.
        attempt: What is being attempted, such as the id of a DAG run. The same
            attempt has the same run, however often it is retried; None: a new run.
        experiment: Its name, such as `client.RECONCILE_EXPERIMENT`.

    Returns:
        The run's id.

    Raises:
        ConfigError: If MLflow refuses the request, or `attempt` holds quotes.
        StoreError: If the tracking server does not answer.
    """
    written = {**_source_tags(), **({_ATTEMPT: attempt} if attempt else {})}
    with mlflow_client(settings, "open run") as client:
        experiment_id = experiment_id_of(settings, client, experiment)
        existing = _find(client, experiment_id, {_ATTEMPT: attempt}) if attempt else None
        return _reopen(client, existing, written) if existing else _create(client, experiment_id, attempt, written)


def open_trial(settings: Settings, run_id: str, name: str) -> str:
    """Opens a run nested in another, or reopens the one of that name.

    Args:
        settings: Names the tracking server.
        run_id: The run it belongs to.
        name: Its name among that run's trials, such as "trial 03".

    Returns:
        The trial's own run id.

    Raises:
        ConfigError: If there is no such run, or `name` holds quotes.
        StoreError: If the tracking server does not answer.
    """
    tags = {_PARENT: run_id, "mlflow.runName": name}
    with mlflow_client(settings, f"open trial {name!r} of run {run_id}") as client:
        experiment_id = client.get_run(run_id).info.experiment_id
        existing = _find(client, experiment_id, tags)
        return _reopen(client, existing, {}) if existing else _create(client, experiment_id, name, tags)


def experiment_of(settings: Settings, run_id: str) -> str:
    """The id of a run's experiment, which MLflow's addresses of its artifacts name.

    Raises:
        ConfigError: If there is no such run.
        StoreError: If the tracking server does not answer.
    """
    with mlflow_client(settings, f"run {run_id}") as client:
        return client.get_run(run_id).info.experiment_id


def finish_run(settings: Settings, run_id: str, status: str = "FINISHED") -> None:
    """Closes a run as "FINISHED", "FAILED" or "KILLED".

    Raises:
        ConfigError: If there is no such run.
        StoreError: If the tracking server does not answer.
    """
    with mlflow_client(settings, f"finish run {run_id}") as client:
        client.set_terminated(run_id, status=status)


@contextlib.contextmanager
def marking_failed(settings: Settings, run_id: str) -> Iterator[None]:
    """Closes a run as "FAILED" if the block raises, and raises the error again; errors of MLflow are ignored."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(BincountError):
            finish_run(settings, run_id, "FAILED")
        raise


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of the checkout that runs, None for an installed package."""
    if not (CHECKOUT / ".git").exists():
        return None
    command = ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _find(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """The oldest run with these tags: two processes that race to open one get the same."""
    for value in tags.values():
        if not value or any(quote in value for quote in "'\"`"):
            raise ConfigError(f"run: its name must be without quotes and not empty, got {value!r}. Rename it.")
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    matching = client.search_runs([experiment_id], wanted, max_results=1, order_by=["attributes.start_time ASC"])
    return matching[0].info.run_id if matching else None


def _create(client: MlflowClient, experiment_id: str, name: str | None, tags: Mapping[str, str]) -> str:
    return client.create_run(experiment_id, tags=dict(tags), run_name=name).info.run_id


def _reopen(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> str:
    client.update_run(run_id, status="RUNNING")
    for name, value in tags.items():
        client.set_tag(run_id, name, value)
    return run_id


def _source_tags() -> dict[str, str]:
    tags = {"mlflow.source.name": "bincount"}
    if revision := commit():
        tags["mlflow.source.git.commit"] = revision
    with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    return tags


def describe_run(settings: Settings, run_id: str, *, name: str, description: str) -> None:
    """Gives a run the name and the description, in Markdown, that MLflow's UI shows."""
    log_tags(settings, run_id, {"mlflow.runName": name, "mlflow.note.content": description})


# MLflow's limits for one request.
_PARAMS_A_BATCH, _METRICS_A_BATCH = 100, 1000


def log_params(settings: Settings, run_id: str, params: Mapping[str, object]) -> None:
    """Writes a run's parameters; writing the same ones again changes nothing.

    Raises:
        ConfigError: If one of them is already written with another value.
        StoreError: If the tracking server does not answer.
    """
    with mlflow_client(settings, f"params of run {run_id}") as client:
        from mlflow.entities import Param

        for batch in _batches([Param(key, str(value)) for key, value in params.items()], _PARAMS_A_BATCH):
            client.log_batch(run_id, params=batch)


def log_metrics(settings: Settings, run_id: str, metrics: Mapping[str, float], step: int | None = None) -> None:
    """Writes points of a run's curves, many in one request.

    Args:
        settings: Names the tracking server.
        run_id: The run.
        metrics: Value by name.
        step: Position on the curve, such as the epoch; None for a single value.
    """
    with mlflow_client(settings, f"metrics of run {run_id}") as client:
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
    with mlflow_client(settings, f"curves of run {run_id}") as client:
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
    with mlflow_client(settings, f"tags of run {run_id}") as client:
        from mlflow.entities import RunTag

        for batch in _batches([RunTag(key, str(value)) for key, value in tags.items()], _PARAMS_A_BATCH):
            client.log_batch(run_id, tags=batch)


def log_artifacts(settings: Settings, run_id: str, folder: Path, to: str | None = None) -> None:
    """Copies a folder's files to a run's artifacts, below `to`."""
    with mlflow_client(settings, f"artifacts of run {run_id}", upload=True) as client:
        client.log_artifacts(run_id, str(folder), to)


def fetch_artifacts(settings: Settings, run_id: str, path: str, folder: Path) -> Path:
    """Downloads a run's artifacts below `path` and returns where they are, below `folder`."""
    with mlflow_client(settings, f"{path} of run {run_id}", upload=True) as client:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(client.download_artifacts(run_id, path, str(folder)))


def log_figures(settings: Settings, run_id: str, figures: Mapping[str, Any]) -> None:
    """Draws matplotlib figures into a run's artifacts, by path such as "evaluation/confusion.png"."""
    with mlflow_client(settings, f"figures of run {run_id}", upload=True) as client:
        for path, figure in figures.items():
            client.log_figure(run_id, figure, path)


def log_dict(settings: Settings, run_id: str, document: Mapping[str, Any], path: str) -> None:
    """Writes a JSON document to a run's artifacts, such as "evaluation/evaluation.json"."""
    with mlflow_client(settings, f"{path} of run {run_id}", upload=True) as client:
        client.log_dict(run_id, dict(document), path)


def log_dataset(settings: Settings, run_id: str, *, digest: str, source: str, profile: str = "{}") -> None:
    """Logs the dataset that a run is trained on; logging the same one again changes nothing.

    Args:
        settings: Names the tracking server.
        run_id: The run.
        digest: The manifest's digest.
        source: Where the bins came from, such as "s3://aft-vbi-pds".
        profile: JSON about them, such as how many there are a part.
    """
    with mlflow_client(settings, f"dataset of run {run_id}") as client:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        bins = Dataset(model_registry.DATASET, digest, source_type="s3", source=source, profile=profile)
        client.log_inputs(run_id, [DatasetInput(bins, [InputTag("mlflow.data.context", "training")])])


def link_version(settings: Settings, run_id: str, version: str) -> None:
    """Links a run to the model version that it uses; MLflow shows it among the run's inputs."""
    with mlflow_client(settings, f"version {version} in run {run_id}") as client:
        from mlflow.entities import LoggedModelInput

        model_id = client.get_model_version(model_registry.MODEL, version).tags.get(model_registry.LOGGED_MODEL)
        if model_id:
            client.log_inputs(run_id, models=[LoggedModelInput(model_id)])


@contextlib.contextmanager
def watch_machine(settings: Settings, run_id: str) -> Iterator[None]:
    """Writes processor, memory, disk and GPU use to a run, every 10 s while the block lasts."""
    with mlflow_client(settings, f"run {run_id}"):
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=settings.tracking_uri)
        monitor.start()
    with short_timeouts():  # also for the monitor's own thread, which `finish` waits for
        try:
            yield
        finally:
            monitor.finish()


def run_tags(settings: Settings, run_id: str) -> dict[str, str]:
    """The tags and parameters of a run, by name; a tag hides a parameter of its name."""
    with mlflow_client(settings, f"run {run_id}") as client:
        data = client.get_run(run_id).data
        return {**data.params, **data.tags}


def _batches(items: list, size: int) -> list[list]:
    return [items[at : at + size] for at in range(0, len(items), size)]


def runs_needed(settings: Settings) -> dict[str, str]:
    """The MLflow runs whose folders are needed, each with the reason.

    Raises:
        StoreError: If MLflow does not answer as it should.
    """
    from mlflow.entities import ViewType

    with mlflow_client(settings, "runs and versions") as client:
        experiments = [one.experiment_id for one in client.search_experiments()]
        needed: dict[str, str] = {}
        token = None
        while experiments and token != "":
            page = client.search_runs(
                experiments, "attributes.status = 'RUNNING'", ViewType.ACTIVE_ONLY, page_token=token
            )
            needed |= {run.info.run_id: "its run has not ended" for run in page}
            token = page.token or ""
        token = None
        while token != "":
            versions = client.search_model_versions(f"name = '{model_registry.MODEL}'", page_token=token)
            needed |= {one.run_id: f"version {one.version} comes from it" for one in versions if one.run_id}
            token = versions.token or ""
    return needed
