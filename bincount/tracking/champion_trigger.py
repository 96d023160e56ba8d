"""The trigger that tells Airflow of another champion, whoever moved the alias.

Airflow's triggerer runs it while a DAG is scheduled on the asset that names it
(`dags/schedules.py`). DAG files import this module when they are read, so it
imports MLflow only when it asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from bincount.errors import BincountError
from bincount.settings import Settings
from bincount.tracking import model_registry

_log = logging.getLogger(__name__)

_SEEN = "version"
_PAUSE_S = 20.0
# Wait after an event, so that Airflow has written it to its database; that takes a second or two.
_WRITTEN_S = 5.0


class ChampionTrigger(BaseEventTrigger):
    """An event for each version that becomes champion.

    The version of the last event is kept with the asset in Airflow's database,
    so a restart repeats no event, and sends one if another version became
    champion meanwhile. The first start sends an event for the current champion.
    The kept version is deleted just before an event, and the new one is kept
    once Airflow has stored the event. A triggerer that is killed in between
    finds no version at its next start and sends an event for the champion of
    that time: an event may come twice, but no change is lost.
    """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The path of this class, and no arguments: the triggerer's environment names the registry."""
        return f"{__name__}.ChampionTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Asks for the champion without end; an event has its `version` and the one that it is `instead_of`."""
        kept = self.asset_state_store
        assert kept is not None, "Airflow sets it where an asset names the trigger"
        seen = await kept.aget(_SEEN)
        while True:
            version = await _champion()
            if version not in (None, seen):
                _log.info("version %s is champion instead of %s", version, seen)
                await kept.adelete(_SEEN)
                yield TriggerEvent({"version": version, "instead_of": seen})
                await asyncio.sleep(_WRITTEN_S)
                await kept.aset(_SEEN, version)
                seen = version
            await asyncio.sleep(_PAUSE_S)


async def _champion() -> str | None:
    """The champion's version; None if there is none, or the registry does not answer."""
    try:
        return await asyncio.to_thread(lambda: model_registry.alias(Settings.from_env(), model_registry.CHAMPION))
    except BincountError as error:
        _log.warning("%s It is asked again in %.0f s.", error, _PAUSE_S)
        return None
