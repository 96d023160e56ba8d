"""Runs in MLflow: opened, found again and closed by explicit id, never by a global "active run"."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from bincount.core.errors import BincountError, ConfigError
from bincount.edge.mlflow_door import EXPERIMENT, door, experiment_id_of
from bincount.edge.settings import CHECKOUT, Settings

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
    """Opens a run of an experiment, or finds the attempt's run again.

    The commit of this checkout is noted on it, where it is known.

    Args:
        settings: Names the tracking server.
        attempt: What is being attempted, such as the id of a DAG run. The same
            attempt has the same run, however often it is retried; None: a new run.
        experiment: Its name, such as `mlflow_door.RECONCILIATIONS`.

    Returns:
        The run's id.

    Raises:
        ConfigError: If MLflow refuses the request, or `attempt` holds quotes.
        StoreError: If the tracking server does not answer.
    """
    written = {**_commit_tag(), **({_ATTEMPT: attempt} if attempt else {})}
    with door(settings, "open run") as client:
        experiment_id = experiment_id_of(settings, client, experiment)
        found = _find(client, experiment_id, {_ATTEMPT: attempt}) if attempt else None
        return _reopen(client, found, written) if found else _create(client, experiment_id, attempt, written)


def open_trial(settings: Settings, run_id: str, name: str) -> str:
    """Opens a run nested in another, or finds it again by its name.

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
    with door(settings, f"open trial {name!r} of run {run_id}") as client:
        experiment_id = client.get_run(run_id).info.experiment_id
        found = _find(client, experiment_id, tags)
        return _reopen(client, found, {}) if found else _create(client, experiment_id, name, tags)


def finish_run(settings: Settings, run_id: str, status: str = "FINISHED") -> None:
    """Closes a run as "FINISHED", "FAILED" or "KILLED".

    Raises:
        ConfigError: If there is no such run.
        StoreError: If the tracking server does not answer.
    """
    with door(settings, f"finish run {run_id}") as client:
        client.set_terminated(run_id, status=status)


@contextlib.contextmanager
def marking_failed(settings: Settings, run_id: str) -> Iterator[None]:
    """Closes a run as "FAILED" if the block raises; what it raised goes on, whatever MLflow says."""
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
    asked = ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _find(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """The oldest run with these tags: a race to open one leaves both askers the same."""
    for value in tags.values():
        if not value or any(quote in value for quote in "'\"`"):
            raise ConfigError(f"run: its name must be without quotes and not empty, got {value!r}. Rename it.")
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found = client.search_runs([experiment_id], wanted, max_results=1, order_by=["attributes.start_time ASC"])
    return found[0].info.run_id if found else None


def _create(client: MlflowClient, experiment_id: str, name: str | None, tags: Mapping[str, str]) -> str:
    return client.create_run(experiment_id, tags=dict(tags), run_name=name).info.run_id


def _reopen(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> str:
    client.update_run(run_id, status="RUNNING")
    for name, value in tags.items():
        client.set_tag(run_id, name, value)
    return run_id


def _commit_tag() -> dict[str, str]:
    known = commit()
    return {"mlflow.source.git.commit": known} if known else {}
