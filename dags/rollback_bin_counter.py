"""Makes the champion before the champion again, and waits until the model server answers with it.

It takes seconds: nothing is evaluated or trained. The version that was champion
becomes the previous one, and is not promoted again against this champion.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from notices import notify
from step_tasks import DAG_DEFAULTS, form_values, run_step

PARAMS = {
    "reason": Param(
        type="string",
        minLength=1,
        maxLength=500,
        title="Reason",
        description="What is wrong with the champion; kept in the history.",
    ),
    "model_version": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Version",
        description="An earlier champion; empty for the one before.",
    ),
}


@task(retries=0)  # a second rollback would undo the first
def rollback() -> dict[str, Any]:
    """Makes the previous version the champion, and the champion the previous one."""
    context = get_current_context()
    answer = run_step("rollback", {}, actor=context["dag_run"].triggering_user_name, **form_values())
    notify(f"version {answer['model_version']} is champion again: {answer['reason']}", context)
    return answer


@task
def verify_serving(so_far: dict[str, Any]) -> dict[str, Any]:
    """Waits until the running model server answers as that version does."""
    return run_step("verify-serving", so_far, model_version=so_far["model_version"])


@dag(**DAG_DEFAULTS, params=PARAMS, doc_md=__doc__)
def rollback_bin_counter() -> None:
    """The champion before becomes champion again."""
    verify_serving(rollback())


rollback_bin_counter()
