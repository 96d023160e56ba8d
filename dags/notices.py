"""Notices to people, through whichever of Airflow's notifiers the operator has configured.

The setting is `notifiers` in section `[bincount]` of Airflow's configuration,
or AIRFLOW__BINCOUNT__NOTIFIERS in its environment, and nowhere else, since it names
code. It is a JSON list of notifiers, each with its "class" and its arguments, whose
templates may use {{ message }}:

    [{"class": "airflow.providers.smtp.notifications.smtp.SmtpNotifier", "to": "floor@example.com",
      "subject": "bincount", "html_content": "{{ message | e }}"}]
"""

from __future__ import annotations

import importlib
import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseNotifier
from airflow.sdk.configuration import conf

_log = logging.getLogger(__name__)


def notify(message: str, context: Any) -> None:
    """Sends a sentence through every notifier; a notifier that fails is logged and stops nothing."""
    for setting in _settings():
        try:
            _notifier(setting)({**context, "message": message})
        except Exception:
            _log.exception("notifiers: must send %r, got an error.", message)


def notify_failure(context: Any) -> None:
    """Reports a failed run: the `on_failure_callback` of every DAG."""
    notify(f"{context['dag'].dag_id}: run {context['run_id']} failed: {context.get('reason')}.", context)


def notify_deadline(minutes: float, context: Any) -> None:
    """Reports a run that has not ended in time: the callback of a DAG's deadline (`schedules.py`)."""
    run = context["dag_run"]
    by = datetime.fromisoformat(run["queued_at"]).astimezone(UTC) + timedelta(minutes=minutes)
    message = f"{run['dag_id']}: must be ready by {by:%Y-%m-%d %H:%M} UTC, got run {run['dag_run_id']} {run['state']}."
    notify(message, context)


def _settings() -> list[Any]:
    text = conf.get("bincount", "notifiers", fallback="") or "[]"
    try:
        settings = json.loads(text)
    except ValueError:
        settings = None
    if not isinstance(settings, list):
        _log.error("notifiers: must be a JSON list of objects, got %.200r.", text)
        return []
    return settings


def _notifier(setting: dict[str, Any]) -> BaseNotifier:
    arguments = dict(setting)
    module, _, name = arguments.pop("class").rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    if not issubclass(kind, BaseNotifier):
        raise TypeError(f"{name} is no notifier")
    return kind(**arguments)
