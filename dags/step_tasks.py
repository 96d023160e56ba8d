"""Parts that the tasks of every DAG share: a step of the package in a fresh process, and the link to its MLflow run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperatorLink, get_current_context
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException
from notices import notify_failure

from bincount.schema import settings_of

MLFLOW_RUN = "mlflow_run_url"
WORKLIST = "worklist_url"

# Steps that use the accelerator: the pool runs one at a time, the queue sends them to a worker that has one.
GPU = {"pool": "gpu", "queue": "gpu"}
# The task `extract` too, unless the operator names a queue of many workers without an accelerator.
_QUEUE = conf.get("bincount", "extract_queue", fallback="gpu")
EXTRACTION = GPU if _QUEUE == "gpu" else {"queue": _QUEUE}

DAG_DEFAULTS: dict[str, Any] = {
    "schedule": None,
    "catchup": False,
    "max_active_runs": 1,
    "tags": ["bincount"],
    # If a server does not answer when a step begins, the step ends: after 8 to 15 s for S3 (`store/s3.py`), at once or
    # after about 20 s for MLflow (`tracking/client.py`). Its three attempts, 30 s apart, survive an outage of a minute.
    # If S3 stops answering later, the step itself retries for 2 minutes.
    "default_args": {"retries": 2, "retry_delay": timedelta(seconds=30)},
    "on_failure_callback": notify_failure,
}
"""Arguments of every DAG: runs are triggered, run one after the other, and a failed run is reported."""


class MlflowRunLink(BaseOperatorLink):
    """A link from a task to its MLflow run, shown as soon as the run is known."""

    name = "MLflow run"
    xcom_key = MLFLOW_RUN

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address that the task has pushed; Airflow reads it again when the task ends."""
        return ti_key.xcom_pull(task_ids=ti_key.task_id, key=self.xcom_key) or ""


class WorklistLink(MlflowRunLink):
    """A link from a task to the page with the bins to count, among the artifacts of its MLflow run."""

    name = "Worklist"
    xcom_key = WORKLIST


def run_step(verb: str, so_far: dict[str, Any], **params: Any) -> dict[str, Any]:
    """Runs one step of the package in a fresh process, and shows the link to its MLflow run.

    Args:
        verb: The step.
        so_far: Answers of the steps before.
        **params: The step's arguments.

    Returns:
        `so_far` with the answer of this step.

    Raises:
        AirflowFailException: If a setting or an object is wrong: no retry.
        BincountError: If a server did not answer or the step was killed: Airflow retries.
    """
    from bincount.errors import ConfigError, DataError
    from bincount.process import subprocess_runner

    link(so_far)
    try:
        answer = subprocess_runner.run_step(verb, params)
    except (ConfigError, DataError) as error:
        raise AirflowFailException(str(error)) from None
    link(answer)
    return so_far | answer


def params_of(schema: type) -> dict[str, Any]:
    """The form's values of those settings that a schema has too.

    Raises:
        AirflowFailException: If the schema does not take them together.
    """
    from bincount.errors import ConfigError

    form = form_values()
    values = {each.name: form[each.name] for each in settings_of(schema) if each.name in form}
    try:
        schema(**values)
    except ConfigError as error:
        raise AirflowFailException(str(error)) from None
    return values


def form_values() -> dict[str, Any]:
    """Every value of the form.

    Raises:
        AirflowFailException: If the run was triggered with a key that is no field: Airflow ignores it, and the
            field's default would act.
    """
    context = get_current_context()
    fields = list(context["dag"].params)  # `params` holds unknown keys of the run's conf too
    if unknown := sorted(set(context["dag_run"].conf or {}) - set(fields)):
        raise AirflowFailException(
            f"form: must name fields of the form, got {unknown[0]!r}. There are {', '.join(fields)}."
        )
    return dict(context["params"])


def link(answer: dict[str, Any]) -> str | None:
    """Pushes and prints the address of the MLflow run; None if the answer names no run."""
    return _push(MLFLOW_RUN, "MLflow run", f"runs/{answer['run_id']}") if "run_id" in answer else None


def link_worklist(answer: dict[str, Any]) -> None:
    """Pushes and prints the address of a reconciliation's page in MLflow's UI."""
    page = f"runs/{answer['run_id']}/artifacts/reconcile/report.html"
    _push(WORKLIST, "Worklist", f"experiments/{answer['experiment_id']}/{page}")


def _push(key: str, name: str, path: str) -> str:
    from bincount.settings import Settings, without_passwords

    settings = Settings.from_env()
    url = f"{settings.mlflow_url or without_passwords(settings.tracking_uri)}/#/{path}"
    get_current_context()["ti"].xcom_push(key, url)
    print(f"{name}: {url}")
    return url
