"""MLflow clients with short timeouts, without telemetry, and with bincount's errors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bincount.errors import BincountError, ConfigError, StoreError
from bincount.settings import Settings, without_passwords

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "bincount"
RECONCILE_EXPERIMENT = "bincount-reconcile"

_SERVERS = ("http://", "https://")
_DATABASES = ("sqlite:///", "postgresql", "mysql", "mssql")
# One request and one retry: a server that hangs is given up after about 20 s. MLflow's own
# defaults (120 s, 7 retries with backoff) keep a task waiting for a quarter of an hour.
_TIMEOUT_S, _RETRIES = 9, 1
# A model's upload is answered when the server has stored all of it.
_UPLOAD_TIMEOUT_S = 300
# Error codes of a wrong request; all others may succeed on a retry.
_CALLERS_FAULT = {
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "BAD_REQUEST",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "CUSTOMER_UNAUTHORIZED",
    "NOT_FOUND",
}


@contextlib.contextmanager
def mlflow_client(settings: Settings, where: str, *, upload: bool = False) -> Iterator[MlflowClient]:
    """A client of the tracking server; errors in the block are raised as bincount's.

    The first use of an SQLite address creates its database and its folder.

    Args:
        settings: Names the server or database.
        where: What is being done, for messages, such as "run 0a1b".
        upload: Whether files are sent, which may take longer than other requests.

    Raises:
        ConfigError: If the address is of an unsupported kind, or MLflow refuses the
            request: an unknown run, another value for a logged parameter.
        StoreError: If the server or database does not answer as it should.
    """
    # Set before MLflow is imported, since it contacts its telemetry server on import.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.exceptions import MlflowException

    uri = settings.tracking_uri
    try:
        with short_timeouts(_UPLOAD_TIMEOUT_S if upload else _TIMEOUT_S):
            yield _client(uri)
    except BincountError:
        raise
    except MlflowException as error:
        reason = without_passwords(_first_line(error.message))
        if error.error_code in _CALLERS_FAULT:
            raise ConfigError(f"{where}: MLflow must accept it, got {reason!r}. Change what it names.") from error
        raise StoreError(
            f"{where}: the tracking server at {without_passwords(uri)} must answer, got {reason!r}. "
            "Start it, or check its log."
        ) from error
    except OSError as error:
        raise StoreError(
            f"{where}: MLflow's files must be readable and writable, got {without_passwords(repr(error))}. "
            "Check the disk and its rights."
        ) from error


_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""What an experiment is for; without it MLflow's UI asks."""


def experiment_id_of(settings: Settings, client: MlflowClient, name: str = EXPERIMENT) -> str:
    """The id of one of bincount's experiments, created where it is absent.

    On a database its artifacts go to the settings' folder; a server decides by itself.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = None if settings.tracking_uri.startswith(_SERVERS) else settings.artifacts.absolute().as_uri()
        try:
            return client.create_experiment(name, artifact_location=location, tags=_KIND)
        except MlflowException as error:
            experiment = client.get_experiment_by_name(name)
            if experiment is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    if experiment.lifecycle_stage != "active":
        raise ConfigError(
            f"experiment {name!r}: must be active, got {experiment.lifecycle_stage!r}. Restore it in MLflow's UI."
        )
    return experiment.experiment_id


@lru_cache(maxsize=8)
def _client(uri: str) -> MlflowClient:
    if not uri.startswith(_SERVERS + _DATABASES):
        raise ConfigError(
            f"MLFLOW_TRACKING_URI: must be http://HOST:PORT or sqlite:///FILE, got {without_passwords(uri)!r}. "
            "Current MLflow refuses folders; leave it unset for the checkout's own database."
        )
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).absolute().parent.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def short_timeouts(timeout_s: int = _TIMEOUT_S) -> Iterator[None]:
    """Sets what MLflow reads from the environment, where the user set nothing: short waits above all."""
    from mlflow import environment_variables as knobs

    ours: dict[Any, object] = {
        knobs.MLFLOW_HTTP_REQUEST_TIMEOUT: timeout_s,
        knobs.MLFLOW_HTTP_REQUEST_MAX_RETRIES: _RETRIES,
        knobs.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR: "false",  # a log is no terminal
    }
    absent = {knob: value for knob, value in ours.items() if not knob.is_set()}
    for knob, value in absent.items():
        knob.set(value)
    try:
        yield
    finally:
        for knob in absent:
            knob.unset()


def _first_line(message: str) -> str:
    return message.strip().split("\n", 1)[0][:300]
