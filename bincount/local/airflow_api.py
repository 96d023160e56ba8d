"""The few calls to Airflow's REST API that `bincount up` needs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bincount.errors import ConfigError, StoreError

FINISHED = ("success", "failed")
_TIMEOUT_S = 30
_PAGE = 100  # Airflow's own limit


@dataclass(frozen=True)
class TaskState:
    """How far a task of a run is.

    Attributes:
        name: The task's id.
        state: Airflow's word for it; None until it is looked at for the first time.
        seconds: How long it ran, or has run so far; None before.
        attempt: 1 for the first.
        map_index: Which of the tasks of that name, from 0 on; -1 where there is one alone.
    """

    name: str
    state: str | None
    seconds: float | None
    attempt: int
    map_index: int = -1

    @property
    def label(self) -> str:
        """The task's name, with its index where it is one of many: "fetch[2]"."""
        return self.name if self.map_index < 0 else f"{self.name}[{self.map_index}]"


class AirflowApi:
    """Airflow's API as one user sees it.

    Args:
        url: Address of the API server.
        user: Who asks.
        password: The user's password.
        dag: The DAG that all calls are about.
    """

    def __init__(self, url: str, user: str, password: str, dag: str) -> None:
        self._url = url
        self._login = {"username": user, "password": password}
        self._token: str | None = None
        self._dag = f"/api/v2/dags/{dag}"

    def is_up(self) -> bool:
        """Whether the API server answers."""
        try:
            return bool(ask(f"{self._url}/api/v2/version", timeout_s=2))
        except OSError:
            return False

    def has_dag(self) -> bool:
        """Whether the DAG has been read.

        Raises:
            ConfigError: If its file cannot be imported.
        """
        errors = self._call("GET", "/api/v2/importErrors")["import_errors"]
        if errors:
            raise ConfigError(
                f"{errors[0]['filename']}: must import, got an error. Mend the file.\n{errors[0]['stack_trace']}"
            )
        return self._call("GET", self._dag, missing={}) != {}

    def make_pool(self, name: str, slots: int) -> None:
        """Makes a pool where there is none of that name."""
        pool = {"name": name, "slots": slots, "include_deferred": True, "description": "Steps that train."}
        if self._call("GET", f"/api/v2/pools/{name}", missing=None) is None:
            self._call("POST", "/api/v2/pools", pool)

    def unfinished_runs(self) -> list[str]:
        """The runs that are queued or running."""
        found = self._call("GET", f"{self._dag}/dagRuns?state=running&state=queued", missing={"dag_runs": []})
        return [run["dag_run_id"] for run in found["dag_runs"]]

    def fail(self, run: str) -> None:
        """Marks a run as failed, which ends its tasks."""
        self._call("PATCH", f"{self._dag}/dagRuns/{run}", {"state": "failed"})

    def trigger(self, params: Mapping[str, Any]) -> str:
        """Starts a run and gives its id."""
        return self._call("POST", f"{self._dag}/dagRuns", {"logical_date": None, "conf": dict(params)})["dag_run_id"]

    def run_state(self, run: str) -> str:
        """Airflow's word for the state of a run: success and failed are the last."""
        return self._call("GET", f"{self._dag}/dagRuns/{run}")["state"]

    def tasks(self, run: str) -> list[TaskState]:
        """The tasks of a run."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._call("GET", f"{self._dag}/dagRuns/{run}/taskInstances?limit={_PAGE}&offset={len(found)}")
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                break
        keys = ("task_id", "state", "duration", "try_number", "map_index")
        return [TaskState(*(one[key] for key in keys)) for one in found]

    def answer_of(self, run: str, task: str) -> dict[str, Any]:
        """What a task has returned; empty if nothing."""
        path = f"{self._dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value?deserialize=true"
        return self._call("GET", path, missing={"value": {}})["value"]

    def log_of(self, run: str, task: TaskState) -> list[str]:
        """The lines that a task's latest attempt has logged so far, without Airflow's own headings."""
        place = f"{self._dag}/dagRuns/{run}/taskInstances/{task.name}/logs/{task.attempt}"
        path = f"{place}?map_index={task.map_index}&full_content=true"
        lines = []
        for line in self._call("GET", path, missing={"content": []})["content"]:
            event = line["event"] if isinstance(line, dict) else line
            if not event.startswith("::"):
                lines.append(event)
            lines.extend(error["exc_value"] for error in (isinstance(line, dict) and line.get("error_detail")) or ())
        return lines

    def _call(self, method: str, path: str, body: object = None, **otherwise: Any) -> Any:
        if self._token is None:
            self._token = self._send("POST", "/auth/token", self._login)["access_token"]
        return self._send(method, path, body, **otherwise)

    def _send(self, method: str, path: str, body: object = None, **otherwise: Any) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310
        try:
            return json.loads(ask(request, timeout_s=_TIMEOUT_S))
        except urllib.error.HTTPError as error:
            if error.code == 404 and "missing" in otherwise:
                return otherwise["missing"]
            said = error.read().decode(errors="replace")
            kind = ConfigError if error.code in (400, 422) else StoreError
            raise kind(f"Airflow: {method} {path} must succeed, got {error.code}: {said}") from error
        except OSError as error:
            raise StoreError(f"Airflow: must answer at {self._url}, got {error}. See the API server's log.") from error


# A proxy that the environment names cannot reach this machine's 127.0.0.1.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(request: str | urllib.request.Request, *, timeout_s: float) -> bytes:
    """The body of the answer.

    Raises:
        OSError: If there is none within the time, or its status is an error (`urllib.error.HTTPError`).
    """
    with _opener.open(request, timeout=timeout_s) as answer:
        return answer.read()
