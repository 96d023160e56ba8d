"""What the DAGs tell each other, and with which form one runs when nobody has filled it in.

The setting is called as the DAG, in section `[bincount]` of Airflow's
configuration or as AIRFLOW__BINCOUNT__RECONCILE_INVENTORY and
AIRFLOW__BINCOUNT__TRAIN_BIN_COUNTER in its environment: a JSON object with
values for the form, which shows them too, and, for reconcile_inventory, `cron`
where it is also to run by the clock (UTC):

    {"source": "s3://stock", "records": "stock.csv", "capacity": 50, "cron": "0 5 * * *"}
"""

from __future__ import annotations

import json
from typing import Any

from airflow.sdk import Asset, AssetAlias, AssetOrTimeSchedule, CronTriggerTimetable, Param
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowTimetableInvalid

CHAMPION = Asset("bincount_champion")
"""Another version is champion, and the model server answers with it."""

CHAMPION_SERVED = AssetAlias("bincount_champion_served")
"""By this alias a task publishes `CHAMPION` in a run that promoted a version, and nothing in a run that did not."""

DRIFT = Asset("bincount_drift")
"""Photos, answers or records are no longer like those that the champion was judged on."""

DRIFT_SEEN = AssetAlias("bincount_drift_seen")
"""By this alias a task publishes `DRIFT` in a run that saw one, and nothing in a run that did not."""


def form_of(dag_id: str) -> dict[str, Any]:
    """The setting of a DAG; empty where there is none.

    Raises:
        ValueError: If it is no JSON object. Airflow shows that as an import error.
    """
    text = conf.get("bincount", dag_id, fallback="") or "{}"
    try:
        form = json.loads(text)
    except ValueError:
        form = None
    if not isinstance(form, dict):
        raise ValueError(f"[bincount] {dag_id}: must be a JSON object, got {text:.200}. Mend Airflow's setting.")
    return form


def schedule_of(dag_id: str, asset: Asset, cron: str | None) -> Any:
    """When a DAG runs by itself: on an asset's events and, where `cron` says so, by the clock.

    Raises:
        ValueError: If `cron` is none; Airflow would say so only later, and in its log.
    """
    if cron is None:
        return [asset]
    clock = CronTriggerTimetable(str(cron), timezone="UTC")
    try:
        clock.validate()
    except AirflowTimetableInvalid as error:
        raise ValueError(f"[bincount] {dag_id}: cron must be such as '0 5 * * *', got {cron!r}. {error}") from None
    return AssetOrTimeSchedule(timetable=clock, assets=[asset])


def filled(dag_id: str, params: dict[str, Param], form: dict[str, Any]) -> dict[str, Param]:
    """Makes a setting's values the form's defaults.

    Raises:
        ValueError: If the form has no such field, or its field takes no such value.
    """
    for name, value in form.items():
        if name not in params:
            raise ValueError(
                f"[bincount] {dag_id}: must name fields of the form, got {name!r}. There are {', '.join(params)}."
            )
        params[name].value = value
        params[name].resolve()
    return params
