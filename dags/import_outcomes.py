"""Imports what people counted, so that the next list of bins to count is better.

The file lies in the workspace's folder `records`, as a count sheet saves it. Counts
are joined to the worklist of a reconciliation that this Airflow ran, the last one if
none is named. What they say becomes metrics and artifacts of its MLflow run, to which
**MLflow run** links; the next `reconcile_inventory` takes its error rate from them, and
its field **Confirmed counts** takes `confirmed.csv`. **No record is changed.**

Importing a file twice changes nothing.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task
from forms import form_params
from notices import notify
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


@dag(**DAG_DEFAULTS, params=form_params(OutcomesConfig, file="counts.csv"), doc_md=__doc__)
def import_outcomes() -> None:
    """What people counted."""
    import_counts().operator.operator_extra_links = (MlflowRunLink(),)


import_outcomes()
