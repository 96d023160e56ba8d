"""A client of Airflow's REST API with the calls that `bincount up` and the tests need."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bincount.errors import ConfigError, StoreError

FINAL_STATES = ("success", "failed")
_TIMEOUT_S = 30
_PAGE = 100  # Airflow's own limit


@dataclass(frozen=True)
class TaskState:
    """The state of one task of a run.

    Attributes:
        name: The task's id.
        state: Airflow's name of the state; None before the scheduler has seen the task.
        duration_s: Run time of the latest attempt; None before it has started.
        attempt: 1 for the first.
        map_index: Index among the mapped tasks of that name, from 0; -1 where the task is not mapped.
    """

    name: str
    state: str | None
    duration_s: float | None
    attempt: int
    map_index: int = -1

    @property
    def label(self) -> str:
        """The task's name, with its index where it is mapped: "fetch[2]"."""
        return self.name if self.map_index < 0 else f"{self.name}[{self.map_index}]"


class AirflowApi:
    """Airflow's API, used by one user for one DAG.

    Args:
        url: Address of the API server.
        user: Name of the user.
        password: The user's password.
        dag: Id of the DAG.
    """

    def __init__(self, url: str, user: str, password: str, dag: str) -> None:
        self._url = url
        self._login = {"username": user, "password": password}
        self._token: str | None = None
        self._dag = f"/api/v2/dags/{dag}"

    def is_up(self) -> bool:
        """True if the API server answers."""
        try:
            return bool(read_url(f"{self._url}/api/v2/version", timeout_s=2))
        except OSError:
            return False

    def has_dag(self) -> bool:
        """True if Airflow has read the DAG.

        Raises:
            ConfigError: If its file cannot be imported.
        """
        errors = self.call("GET", "/api/v2/importErrors")["import_errors"]
        if errors:
            raise ConfigError(f"{errors[0]['filename']}: must be importable, got an error:\n{errors[0]['stack_trace']}")
        return self.call("GET", self._dag, missing={}) != {}

    def make_pool(self, name: str, slots: int) -> None:
        """Creates a pool unless it exists."""
        pool = {"name": name, "slots": slots, "include_deferred": True, "description": "Steps that train."}
        if self.call("GET", f"/api/v2/pools/{name}", missing=None) is None:
            self.call("POST", "/api/v2/pools", pool)

    def unfinished_runs(self) -> list[str]:
        """Ids of the runs that are queued or running."""
        answer = self.call("GET", f"{self._dag}/dagRuns?state=running&state=queued", missing={"dag_runs": []})
        return [run["dag_run_id"] for run in answer["dag_runs"]]

    def fail(self, run: str) -> None:
        """Marks a run as failed, which ends its tasks."""
        self.call("PATCH", f"{self._dag}/dagRuns/{run}", {"state": "failed"})

    def trigger(self, params: Mapping[str, Any]) -> str:
        """Starts a run and returns its id."""
        return self.call("POST", f"{self._dag}/dagRuns", {"logical_date": None, "conf": dict(params)})["dag_run_id"]

    def run_state(self, run: str) -> str:
        """Airflow's name of a run's state; it changes no more once it is one of `FINAL_STATES`."""
        return self.call("GET", f"{self._dag}/dagRuns/{run}")["state"]

    def tasks(self, run: str) -> list[TaskState]:
        """The tasks of a run."""
        entries: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", f"{self._dag}/dagRuns/{run}/taskInstances?limit={_PAGE}&offset={len(entries)}")
            entries += page["task_instances"]
            if not page["task_instances"] or len(entries) >= page["total_entries"]:
                break
        keys = ("task_id", "state", "duration", "try_number", "map_index")
        return [TaskState(*(entry[key] for key in keys)) for entry in entries]

    def result_of(self, run: str, task: str) -> dict[str, Any]:
        """A task's return value; empty if there is none."""
        path = f"{self._dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value?deserialize=true"
        return self.call("GET", path, missing={"value": {}})["value"]

    def log_lines(self, run: str, task: TaskState) -> list[str]:
        """The lines that a task's latest attempt has logged so far, without Airflow's own headings."""
        log = f"{self._dag}/dagRuns/{run}/taskInstances/{task.name}/logs/{task.attempt}"
        path = f"{log}?map_index={task.map_index}&full_content=true"
        lines = []
        for line in self.call("GET", path, missing={"content": []})["content"]:
            event = line["event"] if isinstance(line, dict) else line
            if not event.startswith("::"):
                lines.append(event)
            lines.extend(error["exc_value"] for error in (isinstance(line, dict) and line.get("error_detail")) or ())
        return lines

    def call(self, method: str, path: str, body: object = None, **otherwise: Any) -> Any:
        """Sends a request and returns the JSON of the answer.

        Args:
            method: Such as "GET".
            path: Below the API server's address, such as "/api/v2/pools".
            body: Sent as JSON.
            otherwise: `missing`: what is returned instead where Airflow answers 404.

        Raises:
            ConfigError: If Airflow refuses the request as wrong (400, 422).
            StoreError: If Airflow does not answer, or with another error.
        """
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
            return json.loads(read_url(request, timeout_s=_TIMEOUT_S))
        except urllib.error.HTTPError as error:
            if error.code == 404 and "missing" in otherwise:
                return otherwise["missing"]
            answer = error.read().decode(errors="replace")
            kind = ConfigError if error.code in (400, 422) else StoreError
            raise kind(f"Airflow: {method} {path} must succeed, got {error.code}: {answer}") from error
        except OSError as error:
            raise StoreError(f"Airflow: must answer at {self._url}, got {error}. See the API server's log.") from error


# Without a proxy of the environment, which cannot reach 127.0.0.1 of this machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def read_url(request: str | urllib.request.Request, *, timeout_s: float) -> bytes:
    """The body that an address answers with, asked without a proxy.

    Raises:
        OSError: If there is no answer within the time, or its status is an error (`urllib.error.HTTPError`).
    """
    with _opener.open(request, timeout=timeout_s) as answer:
        return answer.read()
