"""Goes back to the champion before, and waits until the model server answers with it.

Takes seconds: nothing is measured or trained. The version that had to go
becomes the previous one, and is not promoted again against this champion.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from notices import tell
from step_tasks import ALIKE, form_values, run_step
from unattended import CHAMPION

PARAMS = {
    "reason": Param(
        type="string",
        minLength=1,
        maxLength=500,
        title="Reason",
        description="What is wrong with the champion; it is kept in the history.",
    ),
    "model_version": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Version",
        description="An earlier champion to go back to; empty for the one before.",
    ),
}


@task(retries=0)  # done twice it would be undone
def rollback() -> dict[str, Any]:
    """Makes the previous version the champion, and the champion the previous one."""
    context = get_current_context()
    answer = run_step("rollback", {}, actor=context["dag_run"].triggering_user_name, **form_values())
    tell(f"version {answer['model_version']} is champion again: {answer['reason']}", context)
    return answer


@task(outlets=[CHAMPION])
def verify_serving(so_far: dict[str, Any]) -> dict[str, Any]:
    """Asks the running model server until it answers as that version does."""
    return run_step("verify-serving", so_far, model_version=so_far["model_version"])


@dag(**ALIKE, params=PARAMS, doc_md=__doc__)
def rollback_bin_counter() -> None:
    """Back to the champion before."""
    verify_serving(rollback())


rollback_bin_counter()
