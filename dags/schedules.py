"""Schedules by which DAGs run unattended, and the values of their forms.

The setting has the DAG's name, in section `[bincount]` of Airflow's
configuration or as AIRFLOW__BINCOUNT__RECONCILE_INVENTORY and
AIRFLOW__BINCOUNT__TRAIN_BIN_COUNTER in the environment: a JSON object with
values for the form, which become its defaults, and, for reconcile_inventory, `cron`
(UTC) to run by the clock too and `deadline_minutes`, after which a run that has not
succeeded is reported through the notifiers:

    {"source": "s3://stock", "records": "stock.csv", "capacity": 50, "cron": "0 5 * * *", "deadline_minutes": 90}
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from airflow.sdk import (
    Asset,
    AssetAlias,
    AssetOrTimeSchedule,
    AssetWatcher,
    CronTriggerTimetable,
    DeadlineAlert,
    DeadlineReference,
    Param,
    SyncCallback,
)
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowTimetableInvalid
from notices import notify_deadline

from bincount.tracking.champion_trigger import ChampionTrigger

CHAMPION = Asset("bincount_champion", watchers=[AssetWatcher(name="champion", trigger=ChampionTrigger())])
"""Another version is champion. The watcher alone publishes it, whether a DAG, the command line or MLflow's UI moved
the alias: one event a change."""

DRIFT = Asset("bincount_drift")
"""Photos, answers or records have drifted from those that the champion was evaluated on, or counts show it worse."""

DRIFT_SEEN = AssetAlias("bincount_drift_seen")
"""With this alias a task publishes `DRIFT` in a run that saw one, and nothing in a run that did not."""


def operator_form(dag_id: str) -> dict[str, Any]:
    """The operator's values for the form of a DAG; empty if none are set.

    Raises:
        ValueError: If the setting is not a JSON object. Airflow shows that as an import error.
    """
    text = conf.get("bincount", dag_id, fallback="") or "{}"
    try:
        form = json.loads(text)
    except ValueError:
        form = None
    if not isinstance(form, dict):
        raise ValueError(f"[bincount] {dag_id}: must be a JSON object, got {text:.200}.")
    return form


def schedule_of(dag_id: str, asset: Asset, cron: str | None) -> Any:
    """The schedule of a DAG that runs on an asset's events and, with `cron`, by the clock.

    Raises:
        ValueError: If `cron` is not a cron expression; Airflow would report that later, in its log alone.
    """
    if cron is None:
        return [asset]
    clock = CronTriggerTimetable(str(cron), timezone="UTC")
    try:
        clock.validate()
    except AirflowTimetableInvalid as error:
        raise ValueError(f"[bincount] {dag_id}: cron must be such as '0 5 * * *', got {cron!r}. {error}") from None
    return AssetOrTimeSchedule(timetable=clock, assets=[asset])


def deadline_of(dag_id: str, minutes: Any) -> DeadlineAlert | None:
    """The deadline of a DAG's runs, from when a run is queued; None without `minutes`.

    Raises:
        ValueError: If `minutes` is no number of minutes.
    """
    if minutes is None:
        return None
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes <= 43_200:
        raise ValueError(
            f"[bincount] {dag_id}: deadline_minutes must be a number above 0 and up to 43200, got {minutes!r}."
        )
    # Run by the executor, which finds the module in the DAGs' folder; the triggerer does not.
    callback = SyncCallback(notify_deadline, {"minutes": minutes})
    return DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, timedelta(minutes=minutes), callback)


def with_defaults(dag_id: str, params: dict[str, Param], form: dict[str, Any]) -> dict[str, Param]:
    """A form whose defaults are the operator's values.

    Raises:
        ValueError: If the form has no such field, or its field does not take the value.
    """
    for name, value in form.items():
        if name not in params:
            raise ValueError(
                f"[bincount] {dag_id}: must name fields of the form, got {name!r}. There are {', '.join(params)}."
            )
        params[name].value = value
        params[name].resolve()
    return params
