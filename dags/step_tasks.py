"""What every DAG's tasks share: a step of the package in a fresh process, and the way to its MLflow run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperatorLink, get_current_context
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException
from notices import run_failed

from bincount.config import settings_of

MLFLOW_RUN = "mlflow_run_url"

# Steps that use the accelerator: one at a time, says the pool; by a worker that has it, says the queue.
GPU = {"pool": "gpu", "queue": "gpu"}
# Shares of an extraction: there too, unless [bincount] extract_queue says that many workers without one are faster.
_QUEUE = conf.get("bincount", "extract_queue", fallback="gpu")
EXTRACTION = GPU if _QUEUE == "gpu" else {"queue": _QUEUE}

ALIKE: dict[str, Any] = {
    "schedule": None,
    "catchup": False,
    "max_active_runs": 1,
    "tags": ["bincount"],
    # Three attempts: with the 8 to 20 s after which a step gives up a server, more than a minute without it is borne.
    "default_args": {"retries": 2, "retry_delay": timedelta(seconds=30)},
    "on_failure_callback": run_failed,
}
"""What every DAG is given: a run is asked for, one after the other, and told of when it fails."""


class MlflowRunLink(BaseOperatorLink):
    """From a task to the MLflow run it works on; there as soon as the run is known."""

    name = "MLflow run"
    xcom_key = MLFLOW_RUN

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Gives back what the task has pushed; Airflow asks once more when the task ends."""
        return ti_key.xcom_pull(task_ids=ti_key.task_id, key=MLFLOW_RUN) or ""


def run_step(verb: str, so_far: dict[str, Any], **params: Any) -> dict[str, Any]:
    """Runs one step of the package in a fresh process, for the task that calls it.

    Args:
        verb: The step.
        so_far: What the steps before have answered.
        **params: The step's arguments.

    Returns:
        What this step and those before have answered.

    Raises:
        AirflowFailException: If a setting or an object is wrong, which a retry cannot help.
        BincountError: If a server did not answer or the step was killed: Airflow tries again.
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
    """The form's values of those settings that a schema has too."""
    form = form_values()
    return {each.name: form[each.name] for each in settings_of(schema) if each.name in form}


def form_values() -> dict[str, Any]:
    """Every value of the form.

    Raises:
        AirflowFailException: If the run was triggered with a key that is no field: Airflow ignores it, and the
            field's default would act.
    """
    context = get_current_context()
    form = dict(context["params"])
    if unknown := sorted(set(context["dag_run"].conf or {}) - set(form)):
        fields = ", ".join(form)
        raise AirflowFailException(f"form: must name fields of the form, got {unknown[0]!r}. There are {fields}.")
    return form


def link(answer: dict[str, Any]) -> str | None:
    """Shows the way to the MLflow run in the task's log and details; None where no run is known."""
    from bincount.settings import Settings, without_passwords

    if "run_id" not in answer:
        return None
    settings = Settings.from_env()
    url = f"{settings.mlflow_url or without_passwords(settings.tracking_uri)}/#/runs/{answer['run_id']}"
    get_current_context()["ti"].xcom_push(MLFLOW_RUN, url)
    print(f"MLflow run: {url}")  # to be clicked in the log too
    return url
