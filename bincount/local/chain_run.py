"""One run of the chain in the one-machine stack: its parts started, the DAG followed, told what came of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bincount.core.errors import ConfigError, StoreError
from bincount.edge.settings import Settings
from bincount.local.airflow_api import FINISHED, AirflowApi, TaskState
from bincount.local.forbearance import Forbearance
from bincount.local.http import ask
from bincount.local.progress import Progress
from bincount.local.request import curl_of, write_request
from bincount.local.stack import USER, Stack
from bincount.local.supervise import Part, Supervisor

_DAG = "train_bin_counter"
_SHARING = ("plan", "fetch", "extract")  # with one partition they are skipped
_TASKS = (
    *("plan", "fetch", "ingest", "extract", "prepare", "tune", "train", "evaluate", "register"),
    *("ask_gate", "check_serving", "approve", "promote", "verify_serving"),
)
_BUCKET = "bins"
_START_S = 180  # most seconds until a part answers; on two busy cores Airflow takes 30
_LOG_LINES = 25


class ChainRun:
    """One run of the chain in a stack of its own.

    Attributes:
        source: What the chain is asked for, known once the parts are started.
    """

    def __init__(self, supervisor: Supervisor, stack: Stack, settings: Settings) -> None:
        self._supervisor = supervisor
        self._stack = stack
        self._settings = settings
        self._api = AirflowApi(stack.airflow_url, USER, stack.password(), _DAG)
        self._forbearance = Forbearance(_START_S)
        self.source = ""

    def start(self, source: str) -> None:
        """Starts all parts and waits until they answer."""
        began = time.monotonic()
        buckets = self._serve(source)

        def airflow(*command: str) -> Part:
            return self._stack.airflow(*command, buckets=buckets)

        print("starting Airflow and MLflow ...", flush=True)
        self._supervisor.start(self._stack.mlflow())
        self._supervisor.run(airflow("db", "migrate"))
        self._supervisor.start(airflow("api-server"))
        self._supervisor.start(airflow("dag-processor"))
        self._wait(self._api.is_up, "Airflow's API server must answer")
        # Before there is a scheduler to go on with them: a run that its stack did not outlive.
        for run in self._api.unfinished_runs():
            self._api.fail(run)
            print(f"{run}: left unfinished by an earlier stack, now marked as failed.", flush=True)
        self._api.make_pool("gpu", slots=1)
        self._supervisor.start(airflow("scheduler"))
        self._wait(self._api.has_dag, f"Airflow must read the DAG {_DAG}")
        self._wait(lambda: _answer(f"{self._stack.mlflow_url}/health") is not None, "MLflow must answer")
        self._supervisor.start(self._stack.model_server())
        print(f"ready after {time.monotonic() - began:.0f} s.", flush=True)

    def _serve(self, source: str) -> dict[str, str]:
        self.source = source
        if source.startswith("s3://"):
            return dict(self._settings.buckets)
        folder = Path(source)
        if source == "sample":
            folder = self._settings.workspace / "sample"
            print("rendering the sample bins ...", flush=True)
            self._supervisor.run(self._stack.sample(folder))
        elif not folder.is_dir():
            raise ConfigError(
                f'--source: must be "sample", a folder or s3://BUCKET, got {source!r}. Name where the bins are.'
            )
        self._supervisor.start(self._stack.bucket(folder.resolve(), _BUCKET))
        self.source = f"s3://{_BUCKET}"
        return {**self._settings.buckets, _BUCKET: self._stack.bucket_url}

    def follow(self, params: Mapping[str, Any]) -> int:
        """Triggers the DAG, shows its tasks until the last has ended and says what came of it."""
        run = self._api.trigger(params)
        alone = params["partitions"] == 1
        progress = Progress([task for task in _TASKS if not (alone and task in _SHARING)])
        failed: list[TaskState] = []
        state = "queued"
        with progress.context():
            while not failed and state not in FINISHED:
                self._supervisor.check()
                time.sleep(0.5)
                with self._forbearance:
                    tasks = self._api.tasks(run)
                    progress.show(tasks)
                    failed = [task for task in tasks if task.state == "failed"]
                    state = self._api.run_state(run)
        if failed or state == "failed":
            self._tell_failure(run, failed)
            self._api.fail(run)  # so that it is over even where the scheduler ends with us
            return 1
        self._tell_success(run)
        return 0

    def stay(self) -> None:
        """Keeps the stack up until it is stopped or a part ends."""
        while True:
            self._supervisor.check()
            time.sleep(1)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _START_S
        while not condition():
            self._supervisor.check()
            if time.monotonic() > deadline:
                raise StoreError(f"{what}, got nothing for {_START_S} s. See the logs in {self._supervisor.logs}.")
            time.sleep(0.2)

    def _tell_failure(self, run: str, failed: list[TaskState]) -> None:
        for task in failed:
            print(f"\n{task.label} failed. Its log ends with:", file=sys.stderr)
            print("\n".join(self._api.log_of(run, task)[-_LOG_LINES:]), file=sys.stderr, flush=True)
        if not failed:
            print("\nthe run failed before a task did. See it in Airflow.", file=sys.stderr, flush=True)
        print(f"\nAirflow  {self._stack.airflow_url}  user {USER}  password {self._stack.password()}", flush=True)

    def _tell_success(self, run: str) -> None:
        answer = self._api.answer_of(run, "promote")
        stack, version = self._stack, answer["model_version"]
        print(f"\nversion {version}: promoted: {str(answer['promoted']).lower()}. {answer['reason']}")
        print(f"\nAirflow  {stack.airflow_url}  user {USER}  password {stack.password()}")
        print(f"MLflow   {stack.mlflow_url}  this run: {stack.mlflow_url}/#/runs/{answer['run_id']}")
        served = json.loads(_answer(f"{stack.model_url}/model") or "{}").get("version")
        if served is None:
            print(f"Model    {stack.model_url}  waits for a first champion.", flush=True)
            return
        print(f"Model    {stack.model_url}  serves version {served}; ask it:")
        print(f"\n{curl_of(stack.model_url, write_request(self._settings, answer['manifest']))}", flush=True)


def _answer(url: str) -> bytes | None:
    """What one of our own servers answers, None while it does not."""
    try:
        return ask(url, timeout_s=30)
    except OSError:
        return None
