"""The champion: one process moves it at a time, and every move is logged."""

from __future__ import annotations

import json
import os
import pwd
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bincount.errors import StoreError
from bincount.settings import Settings
from bincount.store.workspace import open_workspace
from bincount.tracking.client import mlflow_client
from bincount.tracking.model_registry import CHALLENGER, CHAMPION, MODEL, PREVIOUS, alias_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MOVE = "bincount.move."
_LOCK = "champion.lock"
_TIMEOUT_S = 90  # a move takes less than a second; in a bucket the lease of a holder that died takes a minute


@dataclass(frozen=True)
class Move:
    """A change of the champion.

    Attributes:
        at: When, in UTC (ISO 8601).
        champion: The version that became champion.
        instead_of: The champion before it, None for none.
        actor: Who did it.
        reason: For what reason.
    """

    at: str
    champion: str
    instead_of: str | None
    actor: str
    reason: str


class ChampionChanged(StoreError):
    """Another version became champion in the meantime, so the decision is no longer valid."""


def move_champion(settings: Settings, version: str, *, instead_of: str | None, actor: str, reason: str) -> None:
    """Makes a version the champion, and the champion before it the previous one.

    The move is written to the registered model's tags before the alias moves: a
    move may be listed twice after a retry, but none is missing.

    Args:
        settings: Names the tracking server, and the workspace, which has the lock.
        version: The new champion.
        instead_of: The champion that the decision was taken against, None for none.
        actor: Who moves it.
        reason: For what reason.

    Raises:
        ChampionChanged: If another version became champion in the meantime.
        StoreError: If another process holds the lock all that time.
    """
    lock = open_workspace(settings).lock(settings.workspace / _LOCK, "champion", timeout_s=_TIMEOUT_S)
    with lock, mlflow_client(settings, f"promote version {version} of {MODEL}") as client:
        _expect(client, instead_of, version)
        if version == instead_of:
            return
        now = datetime.now(UTC)
        move = Move(now.isoformat(), version, instead_of, actor, reason)
        key = f"{_MOVE}{now:%Y%m%dT%H%M%S.%f}Z.{version}"
        client.set_registered_model_tag(MODEL, key, json.dumps(asdict(move), ensure_ascii=False))
        if instead_of:
            client.set_registered_model_alias(MODEL, PREVIOUS, instead_of)
        client.set_registered_model_alias(MODEL, CHAMPION, version)
        if alias_of(client, CHALLENGER) == version:
            client.delete_registered_model_alias(MODEL, CHALLENGER)
        _expect(client, version, version)


def champion_moves(settings: Settings) -> list[Move]:
    """Every move there was, the oldest first."""
    with mlflow_client(settings, f"history of {MODEL}") as client:
        tags = client.get_registered_model(MODEL).tags
    return [Move(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(_MOVE)]


def whoami() -> str:
    """The user that this process runs as."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers run as users that have no name
        return f"user {os.getuid()}"


def _expect(client: MlflowClient, champion: str | None, version: str) -> None:
    current = alias_of(client, CHAMPION)
    if current != champion:
        raise ChampionChanged(
            f"champion: must be version {champion or 'none'} while {version} is promoted, got {current or 'none'}. "
            "Another promotion came between; promote again."
        )
