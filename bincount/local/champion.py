"""Keeps the model server on the registry's champion."""

from __future__ import annotations

import json
import time
import urllib.error

from bincount.core.errors import StoreError
from bincount.local.http import ask
from bincount.local.stack import Stack
from bincount.local.supervise import Supervisor

POLL_S = 2.0
_TIMEOUT_S = 30
_ALIAS = "/api/2.0/mlflow/registered-models/alias?name=bincount&alias=champion"


class ChampionServer:
    """Starts the model server once there is a champion, and again when another version is.

    Args:
        supervisor: Runs the server.
        stack: Says how it is started.
    """

    def __init__(self, supervisor: Supervisor, stack: Stack) -> None:
        self._supervisor = supervisor
        self._stack = stack
        self._looked = float("-inf")
        self.version: str | None = None

    def is_known(self) -> bool:
        """Whether MLflow answers yet; once it does, what it names is started."""
        try:
            self.follow()
        except StoreError:
            return False
        return True

    def follow(self) -> None:
        """Asks the registry, at most every 2 seconds, and starts what it names."""
        if time.monotonic() - self._looked < POLL_S:
            return
        champion = champion_of(self._stack.mlflow_url)
        self._looked = time.monotonic()
        if champion == self.version:
            return
        part = self._stack.model_server()
        if self.version is not None:
            self._supervisor.stop(part.name)
        if champion is not None:
            self._supervisor.start(part)
        self.version = champion


def champion_of(mlflow_url: str) -> str | None:
    """The version that the alias `champion` names, None while there is none.

    Raises:
        StoreError: If MLflow does not answer as it should.
    """
    try:
        return json.loads(ask(mlflow_url + _ALIAS, timeout_s=_TIMEOUT_S))["model_version"]["version"]
    except urllib.error.HTTPError as error:
        if error.code in (400, 404):  # no such alias; no such model
            return None
        raise StoreError(f"MLflow: must name the champion, got {error.code}. See its log.") from error
    except OSError as error:
        raise StoreError(f"MLflow: must answer at {mlflow_url}, got {error}. See its log.") from error
