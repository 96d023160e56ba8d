"""Holds what the books say against photos, and lists the bins in the order in which to count them.

Worklist, report and summary are artifacts of an MLflow run in the experiment
`bincount-reconcile`, which **MLflow run** leads to. **Nothing changes any
record**: what is done about the list is for people.

It runs when somebody fills in its form, when another champion answers (the
asset `bincount_champion`) and, if the operator says so, by the clock. What it
then works on is the operator's setting (AIRFLOW__BINCOUNT__RECONCILE_INVENTORY,
see `unattended.py`); without a source there, such a run is skipped and says so.
A killed run goes on where it was when it is retried or cleared.

If photos, answers or records are no longer like those that the model was
judged on, `report_drift` publishes the asset `bincount_drift`.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from forms import form_params
from notices import tell
from step_tasks import ALIKE, GPU, MlflowRunLink, params_of, run_step
from unattended import CHAMPION, DRIFT, DRIFT_SEEN, filled, form_of, schedule_of

from bincount.config import ReconcileConfig

NAME = "reconcile_inventory"
FORM = form_of(NAME)
CRON = FORM.pop("cron", None)
PARAMS = form_params(ReconcileConfig, source="s3://bins")


@task(**GPU)
def reconcile() -> dict[str, Any]:
    """Holds the records against their photos and keeps the worklist in an MLflow run."""
    context = get_current_context()
    by_hand = context["dag_run"].run_type in ("manual", "operator_triggered")
    if not by_hand and "source" not in FORM:
        raise AirflowSkipException(
            "nobody has said what to reconcile when nobody fills in the form. "
            f'Set AIRFLOW__BINCOUNT__{NAME.upper()}, such as {{"source": "s3://stock", "capacity": 50}}.'
        )
    answer = run_step("reconcile", {}, track=True, attempt=context["run_id"], **params_of(ReconcileConfig))
    print(answer["says"])
    tell(f"{NAME}: {answer['says']}", context)
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
    tell(f"{NAME}: {', '.join(facts)} drifted. Count some bins drawn at random, and train anew.", context)
    return facts


@dag(**ALIKE | {"schedule": schedule_of(NAME, CHAMPION, CRON)}, params=filled(NAME, PARAMS, FORM), doc_md=__doc__)
def reconcile_inventory() -> None:
    """Which records are wrong, worst first."""
    done = reconcile()
    for result in (done, report_drift(done)):
        result.operator.operator_extra_links = (MlflowRunLink(),)


reconcile_inventory()
