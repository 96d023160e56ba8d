"""Compares inventory records with photos and lists the bins to count, the most probably wrong first.

Worklist, report and summary are artifacts of an MLflow run in the experiment
`bincount-reconcile`, to which **MLflow run** links, and **Worklist** to the page with
the bins to count. **No record is changed.**

The DAG runs when it is triggered, within a minute after another version has become
champion (the asset `bincount_champion`) and, if the operator sets `cron`, by the clock. The last two
use the values in AIRFLOW__BINCOUNT__RECONCILE_INVENTORY (`schedules.py`) and are
skipped if it names no source. A run that has not succeeded when its `deadline_minutes`
are over is reported through the notifiers. A killed run continues when it is retried or cleared.

If photos, answers or records have drifted from those that the model was
evaluated on, `report_drift` publishes the asset `bincount_drift`.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from forms import form_params
from notices import notify
from schedules import CHAMPION, DRIFT, DRIFT_SEEN, deadline_of, operator_form, schedule_of, with_defaults
from step_tasks import DAG_DEFAULTS, GPU, MlflowRunLink, WorklistLink, link_worklist, params_of, run_step

from bincount.config import ReconcileConfig

NAME = "reconcile_inventory"
FORM = operator_form(NAME)
CRON, DEADLINE_MINUTES = FORM.pop("cron", None), FORM.pop("deadline_minutes", None)
PARAMS = form_params(ReconcileConfig, source="s3://bins")


@task(**GPU)
def reconcile() -> dict[str, Any]:
    """Compares the records with their photos and logs the worklist to an MLflow run."""
    context = get_current_context()
    is_manual = context["dag_run"].run_type in ("manual", "operator_triggered")
    if not is_manual and "source" not in FORM:
        raise AirflowSkipException(
            f"no source is set for runs that nobody triggers: set AIRFLOW__BINCOUNT__{NAME.upper()} to a JSON object "
            'such as {"source": "s3://stock", "capacity": 50}.'
        )
    answer = run_step("reconcile", {}, track=True, attempt=context["run_id"], **params_of(ReconcileConfig))
    link_worklist(answer)
    print(answer["says"])
    notify(f"{NAME}: {answer['says']}", context)
    return answer


@task(outlets=[DRIFT_SEEN])
def report_drift(so_far: dict[str, Any]) -> dict[str, Any]:
    """Publishes that the photos have drifted, if they have."""
    drift = so_far["drift"]
    if drift is None:
        print("drift is not known: the version was registered without a drift baseline")
        return {}
    if not drift["beyond"]:
        print(f"no drift in {drift['compared']} bins")
        return {}
    context = get_current_context()
    facts = {name: drift["facts"][name] for name in drift["beyond"]}
    context["outlet_events"][DRIFT_SEEN].add(DRIFT, extra={"run_id": so_far["run_id"], "facts": facts})
    notify(f"{NAME}: {', '.join(facts)} drifted. Count some bins drawn at random, and train anew.", context)
    return facts


@dag(
    **DAG_DEFAULTS | {"schedule": schedule_of(NAME, CHAMPION, CRON)},
    params=with_defaults(NAME, PARAMS, FORM),
    deadline=deadline_of(NAME, DEADLINE_MINUTES),
    doc_md=__doc__,
)
def reconcile_inventory() -> None:
    """The bins whose record is probably wrong."""
    done = reconcile()
    done.operator.operator_extra_links = (MlflowRunLink(), WorklistLink())
    report_drift(done).operator.operator_extra_links = (MlflowRunLink(),)


reconcile_inventory()
