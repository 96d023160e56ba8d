"""Imports what people counted, so that the next list of bins to count is better.

The file lies in the workspace's folder `records`, as a count sheet saves it. Counts
are joined to the worklist of a reconciliation that this Airflow ran, the last one if
none is named. What they say becomes metrics and artifacts of its MLflow run, to which
**MLflow run** links; the next `reconcile_inventory` takes its error rate from them, and
its field **Confirmed counts** takes `confirmed.csv`. **No record is changed.**

If the counted bins are worse than the worklist stated of them (`outcomes/decay.py`),
`report_decay` publishes the asset `bincount_drift`, once a worklist.

Importing a file twice changes nothing.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task
from forms import form_params
from notices import notify
from schedules import DRIFT, DRIFT_SEEN
from step_tasks import DAG_DEFAULTS, MlflowRunLink, params_of, run_step

from bincount.config import OutcomesConfig


@task
def import_counts() -> dict[str, Any]:
    """Joins the counts to their worklist and stores them."""
    form = params_of(OutcomesConfig)
    answer = run_step(f"outcomes import {form.pop('file')}", {}, track=True, **form)
    says = " ".join(answer["says"])
    notify(f"import_outcomes: {says}", get_current_context())
    print(says)
    return answer


@task(inlets=[DRIFT], outlets=[DRIFT_SEEN])
def report_decay(so_far: dict[str, Any]) -> dict[str, Any]:
    """Publishes that the model has become worse than it states, if it has and if that is not published yet."""
    decay = so_far["decay"]
    if decay is None or not decay["beyond"]:
        print("no decay" if decay else "decay is not known: no counted bin can be compared with what was stated of it")
        return {}
    context = get_current_context()
    if any(event.extra.get("worklist") == decay["worklist"] for event in context["inlet_events"][DRIFT]):
        print(f"the decay in worklist {decay['worklist']} is published already")
        return {}
    facts = {name: decay["facts"][name] for name in decay["beyond"]}
    extra = {"run_id": so_far["run_id"], "worklist": decay["worklist"], "facts": facts}
    context["outlet_events"][DRIFT_SEEN].add(DRIFT, extra=extra)
    told = "; ".join(
        f"{name} is {fact['value']:.3g}, {fact['expected']:.3g} was stated (p {fact['p_value']:.2g})"
        for name, fact in facts.items()
    )
    notify(f"import_outcomes: counts are worse than stated: {told}. Count some random bins, and train anew.", context)
    return facts


@dag(**DAG_DEFAULTS, params=form_params(OutcomesConfig, file="counts.csv"), doc_md=__doc__)
def import_outcomes() -> None:
    """What people counted."""
    done = import_counts()
    for result in (done, report_decay(done)):
        result.operator.operator_extra_links = (MlflowRunLink(),)


import_outcomes()
