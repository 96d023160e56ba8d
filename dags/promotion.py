"""From a registered version to a served champion: the tasks at the end of a DAG that trains."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from forms import form_params
from notices import notify
from step_tasks import link, run_step

from bincount.config import ApprovalConfig

APPROVAL = form_params(ApprovalConfig)
"""The fields that the form of a DAG with these tasks adds."""


def promotion_of(registered: Any) -> list[Any]:
    """The tasks in their order.

    Args:
        registered: Answers of the steps before, with `model_version`.
    """
    decided = gate(registered)
    checked = check_serving(decided)
    approve = Approve(
        task_id="approve",
        so_far=decided,
        subject="May this version become champion?",
        params={"reason": Param("", type="string", title="Reason", description="Kept in the history.")},
        defaults=Approve.REJECT,
        retries=0,
    )
    promoted = promote(decided)
    checked >> approve >> promoted
    return [decided, checked, approve, promoted, verify_serving(promoted)]


@task
def gate(so_far: dict[str, Any]) -> dict[str, Any]:
    """Decides whether the version is better than the baselines and no worse than the champion."""
    return run_step("gate", so_far, model_version=so_far["model_version"])


@task
def check_serving(so_far: dict[str, Any]) -> dict[str, Any]:
    """Serves the version on a free port and compares its answers, unless the gate refused it."""
    if so_far["outcome"] == "refused":
        print(f"nothing to check: {so_far['reason']}")
        return {"servable": False}
    return run_step("check-serving", so_far, model_version=so_far["model_version"])


class Approve(ApprovalOperator):
    """Asks a person to approve the promotion; skipped unless the form requires it and the version can be promoted.

    A rejection, or no answer in time, skips the promotion and is written to the version.
    """

    template_fields = (*ApprovalOperator.template_fields, "so_far")

    def __init__(self, *, so_far: Any, **arguments: Any) -> None:
        self.so_far = so_far
        super().__init__(**arguments)

    def execute(self, context: Any) -> Any:
        """Asks, with the comparison of both versions as text."""
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
        notify(self.subject, context)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Continues with the answer."""
        if event.get("chosen_options") == [self.REJECT]:
            user = event.get("responded_by_user")
            actor = name_of(user) if user else "timeout"
            reason = (event.get("params_input") or {}).get("reason") if user else "nobody answered in time"
            version = self.so_far["model_version"]
            answer = run_step("reject", {}, model_version=version, actor=actor, reason=reason or None)
            notify(f"version {self.so_far['model_version']}: {answer['reason']}", context)
        return super().execute_complete(context, event)


@task(trigger_rule="none_failed")  # an approval that is not required is skipped
def promote(so_far: dict[str, Any]) -> dict[str, Any]:
    """Makes the version the champion if gate, serving check and approval allow it."""
    context = get_current_context()
    actor, approved = context["dag_run"].triggering_user_name, context["ti"].xcom_pull(task_ids="approve") or {}
    expected = reason = None
    if approved:
        actor, expected = name_of(approved["responded_by_user"]), so_far["against"]
        reason = approved["params_input"].get("reason") or f"Approved. {so_far['reason']}"
    version = so_far["model_version"]
    answer = run_step("promote", so_far, model_version=version, actor=actor, reason=reason, expected_champion=expected)
    if answer["promoted"]:
        by = f", by {actor}" if actor else ""
        why = reason or answer["reason"]
        notify(f"version {version} is champion instead of {so_far['against']}{by}: {why}", context)
    return answer


@task
def verify_serving(so_far: dict[str, Any]) -> dict[str, Any]:
    """Asks the running model server and compares its answers, unless nothing was promoted."""
    if not so_far["promoted"]:
        print(f"nothing to verify: {so_far['reason']}")
        return so_far
    return run_step("verify-serving", so_far, model_version=so_far["model_version"])


def name_of(user: Any) -> str:
    """A user's name; Airflow passes a user as an object or as a dict."""
    return user["name"] if isinstance(user, dict) else user.name
