"""From a registered version to a champion that is served: the tasks at the end of every DAG that makes one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from notices import tell
from step_tasks import link, run_step
from unattended import CHAMPION

APPROVAL = {
    "require_approval": Param(
        False,
        type="boolean",
        title="Require approval",
        description="Whether a person must agree before a version becomes champion, under Required Actions.",
        section="Promotion",
    ),
    "approval_minutes": Param(
        1440,
        type="integer",
        minimum=1,
        maximum=43200,
        title="Minutes to approve",
        description="How long the run waits for that person; no answer is a no.",
        section="Promotion",
    ),
}
"""What the form of a DAG with these tasks asks."""


def promotion_of(registered: Any) -> list[Any]:
    """The tasks, in their order.

    Args:
        registered: What the steps so far have answered, `model_version` among it.
    """
    asked = ask_gate(registered)
    checked = check_serving(asked)
    approve = Approve(
        task_id="approve",
        so_far=asked,
        subject="May this version become champion?",
        params={"why": Param("", type="string", title="Why", description="For those who read the history.")},
        defaults=Approve.REJECT,
        retries=0,  # it asks once
    )
    promoted = promote(asked)
    checked >> approve >> promoted
    return [asked, checked, approve, promoted, verify_serving(promoted)]


@task
def ask_gate(so_far: dict[str, Any]) -> dict[str, Any]:
    """Asks whether the version is better than guessing and no worse than the champion."""
    return run_step("ask_gate", so_far, model_version=so_far["model_version"])


@task
def check_serving(so_far: dict[str, Any]) -> dict[str, Any]:
    """Serves the version on a free port and compares its answers; skipped if the gate said no."""
    if not so_far["agreed"]:
        raise AirflowSkipException(so_far["reason"])
    return run_step("check_serving", so_far, model_version=so_far["model_version"])


class Approve(ApprovalOperator):
    """Asks a person, if the form said so and there is anything to ask; skipped otherwise.

    Rejecting it, or not answering in time, skips the promotion and is noted on
    the version.
    """

    template_fields = (*ApprovalOperator.template_fields, "so_far")

    def __init__(self, *, so_far: Any, **arguments: Any) -> None:
        self.so_far = so_far
        super().__init__(**arguments)

    def execute(self, context: Any) -> Any:
        """Asks, with the comparison in view."""
        form, so_far = context["dag_run"].conf or {}, self.so_far
        params = {name: form.get(name, param.value) for name, param in APPROVAL.items()}
        if not params["require_approval"]:
            raise AirflowSkipException("no approval is required")
        if not context["ti"].xcom_pull(task_ids="check_serving")["servable"]:
            raise AirflowSkipException("it cannot be served")
        url = link(so_far)
        self.subject = f"May version {so_far['model_version']} become champion instead of {so_far['against']}?"
        self.body = so_far["comparison"] + (f"\n\n[The run in MLflow]({url})" if url else "")
        self.response_timeout = timedelta(minutes=params["approval_minutes"])
        tell(self.subject, context)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Goes on with what the person said."""
        if event.get("chosen_options") == [self.REJECT]:
            user = event.get("responded_by_user")
            who = name_of(user) if user else "timeout"
            why = (event.get("params_input") or {}).get("why") if user else "nobody answered in time"
            answer = run_step("reject", {}, model_version=self.so_far["model_version"], who=who, why=why or None)
            tell(f"version {self.so_far['model_version']}: {answer['reason']}", context)
        return super().execute_complete(context, event)


@task(trigger_rule="none_failed")  # runs also if there was nothing to check or to approve
def promote(so_far: dict[str, Any]) -> dict[str, Any]:
    """Makes the version the champion if it deserves it, and says why or why not."""
    context = get_current_context()
    who, approved = context["dag_run"].triggering_user_name, context["ti"].xcom_pull(task_ids="approve") or {}
    against = why = None
    if approved:
        who, against = name_of(approved["responded_by_user"]), so_far["against"]
        why = approved["params_input"].get("why") or f"Approved. {so_far['reason']}"
    version = so_far["model_version"]
    answer = run_step("promote", so_far, model_version=version, who=who, why=why, against=against)
    if answer["promoted"]:
        says = f"version {version} is champion instead of {so_far['against']}, by {who}: {why or answer['reason']}"
        tell(says, context)
    return answer


@task(outlets=[CHAMPION])  # published once it is served, and not where this is skipped
def verify_serving(so_far: dict[str, Any]) -> dict[str, Any]:
    """Asks the running model server and compares its answers; skipped if nothing was promoted."""
    if not so_far["promoted"]:
        raise AirflowSkipException(f"not promoted: {so_far['reason']}")
    return run_step("verify_serving", so_far, model_version=so_far["model_version"])


def name_of(user: Any) -> str:
    """A user's name, however Airflow hands one over."""
    return user["name"] if isinstance(user, dict) else user.name
