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

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from notices import tell
from step_tasks import ALIKE, GPU, MlflowRunLink, params_of, run_step
from unattended import CHAMPION, DRIFT, filled, form_of, schedule_of

NAME = "reconcile_inventory"
FORM = form_of(NAME)
CRON = FORM.pop("cron", None)
WHAT, LIMIT, HOW = "What", "How many to count", "How to judge"

PARAMS = {
    "source": Param(
        "s3://bins",
        type="string",
        title="Source",
        description="Bucket of the photos. s3://bins is the one that bincount up serves.",
        examples=["s3://bins", "s3://aft-vbi-pds"],
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/?$",
        section=WHAT,
    ),
    "records": Param(
        None,
        type=["null", "string"],
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(csv|parquet)$",
        maxLength=200,
        title="Records",
        description="Name of a CSV or parquet file in the folder records of the workspace, with the columns id and "
        "recorded and, as you like, location and unit_value; empty for the source's own metadata.",
        examples=["stock.csv"],
        section=WHAT,
    ),
    "model": Param(
        "models:/bincount@champion",
        type="string",
        pattern=r"^models:/bincount(/[0-9]+|@[A-Za-z0-9_-]+)$",
        title="Model",
        description="An alias or a version. Train with the counts 0-5+ if you reconcile: with 1-5 a record of 0, or "
        "of 6 and more, cannot be held against a photo; with 0-5+ each can, and 'recorded some, looks empty' is the "
        "surest alarm there is.",
        examples=["models:/bincount@champion", "models:/bincount/3"],
        section=WHAT,
    ),
    "capacity": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Capacity",
        description="How many bins can be counted; instead of the two costs.",
        examples=[50],
        section=LIMIT,
    ),
    "count_cost": Param(
        None,
        type=["null", "number"],
        minimum=0,
        title="Cost of counting",
        description="What it costs to count a bin; needs the cost of a miss, in the same currency.",
        section=LIMIT,
    ),
    "miss_cost": Param(
        None,
        type=["null", "number"],
        minimum=0,
        title="Cost of a miss",
        description="What a wrong record that is not found costs.",
        section=LIMIT,
    ),
    "error_rate": Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        exclusiveMaximum=1,
        title="Error rate",
        description="Share of the records that you believe wrong; empty for what counting found so far, else 0.02.",
        examples=[0.02],
        section=HOW,
    ),
    "alpha": Param(
        0.05,
        type="number",
        exclusiveMinimum=0,
        exclusiveMaximum=1,
        title="Alpha",
        description="Share of right records that may be called a mismatch.",
        section=HOW,
    ),
    "blind": Param(
        False,
        type="boolean",
        title="Blind",
        description="Whether the report is for the person who counts: it shows neither records nor what the model "
        "sees. The lists show both.",
        section=HOW,
    ),
}


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
    answer = run_step(NAME, {}, attempt=context["run_id"], **params_of(*PARAMS))
    print(answer["says"])
    tell(f"{NAME}: {answer['says']}", context)
    return answer


@task(outlets=[DRIFT])
def report_drift(so_far: dict[str, Any]) -> dict[str, Any]:
    """Publishes that the photos have drifted; skipped if they have not."""
    drift = so_far["drift"]
    if drift is None:
        raise AirflowSkipException("not known: the version was registered before versions noted what photos were like")
    if not drift["beyond"]:
        raise AirflowSkipException(f"none in {drift['compared']} bins")
    context = get_current_context()
    facts = {name: drift["facts"][name] for name in drift["beyond"]}
    context["outlet_events"][DRIFT].extra = {"run_id": so_far["run_id"], "facts": facts}
    tell(f"{NAME}: {', '.join(facts)} drifted. Count some bins drawn at random, and train anew.", context)
    return facts


@dag(**ALIKE | {"schedule": schedule_of(NAME, CHAMPION, CRON)}, params=filled(NAME, PARAMS, FORM), doc_md=__doc__)
def reconcile_inventory() -> None:
    """Which records are wrong, worst first."""
    done = reconcile()
    for result in (done, report_drift(done)):
        result.operator.operator_extra_links = (MlflowRunLink(),)


reconcile_inventory()
