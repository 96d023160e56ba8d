"""`bincount up`: starts Airflow, MLflow, the bucket and the model server, and runs the DAG once."""

from __future__ import annotations

import argparse
import base64
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from bincount.config import UpConfig
from bincount.dataset.manifest import read_manifest
from bincount.dataset.shards import decode_example, read_record
from bincount.errors import ConfigError, StoreError
from bincount.local.airflow_api import FINAL_STATES, AirflowApi, TaskState, read_url
from bincount.local.stack import PORT_FLAGS, USER, Ports, Stack, check_ports
from bincount.local.supervisor import Component, Supervisor
from bincount.settings import Settings

_DAG = "train_bin_counter"
_TASKS = (
    *("plan", "fetch", "ingest", "extract", "prepare", "tune", "train", "evaluate", "register"),
    *("gate", "check_serving", "approve", "promote", "verify_serving"),
)
_BUCKET = "bins"
_START_TIMEOUT_S = 180  # until a component answers; Airflow takes 30 s on two busy cores
_LOG_LINES = 25
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def up(args: argparse.Namespace) -> int:
    """Starts the stack, runs the DAG once and, unless `--once`, keeps the stack up until it is stopped.

    Args:
        args: The flags of `UpConfig`, a port for each of `PORT_FLAGS`, and `once`.

    Returns:
        The exit status: 0 if the run succeeded, 1 if it failed, 130 if it was stopped before its end.

    Raises:
        ConfigError: If a flag is wrong, such as a taken port.
        StoreError: If a component of the stack exits or does not answer.
    """
    config = UpConfig(source=args.source, limit=args.limit, seed=args.seed, partitions=args.partitions)
    ports = Ports(**{name: getattr(args, f"{name}_port") for name in PORT_FLAGS})
    settings = Settings.from_env()
    settings.need_folder("up")
    stack = Stack(ports, workspace=settings.workspace)
    for signum in _SIGNALS:
        signal.signal(signum, _stop)
    status = 130
    try:
        with Supervisor(stack.home) as supervisor:
            needs_bucket = not config.source.startswith("s3://")
            used = [name for name in PORT_FLAGS if needs_bucket or name != "bucket"]
            check_ports({f"--{name}-port": getattr(ports, name) for name in used})
            run = StackRun(supervisor, stack, settings)
            source = run.start(config.source)
            status = run.follow({**asdict(config), "source": source})
            if not args.once:
                print("\nCtrl-C stops everything.", flush=True)
                run.wait_until_stopped()
    except KeyboardInterrupt:
        print("\nstopped.", flush=True)
    return status


def _stop(*_: object) -> None:
    # A second signal must not interrupt the shutdown of the components.
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    raise KeyboardInterrupt


class StackRun:
    """One run of the DAG in a stack started for it."""

    def __init__(self, supervisor: Supervisor, stack: Stack, settings: Settings) -> None:
        self._supervisor = supervisor
        self._stack = stack
        self._settings = settings
        self._api = AirflowApi(stack.airflow_url, USER, stack.password(), _DAG)

    def start(self, source: str) -> str:
        """Starts all components, waits until they answer, and returns the source as the DAG's Param takes it.

        Raises:
            ConfigError: If the source is no folder, or the DAG cannot be imported.
            StoreError: If a component exits or does not answer in time.
        """
        began = time.monotonic()
        source, buckets = self._start_bucket(source)

        def airflow(*command: str) -> Component:
            return self._stack.airflow(*command, buckets=buckets)

        print("starting Airflow and MLflow ...", flush=True)
        self._supervisor.start(self._stack.mlflow())
        self._supervisor.run(airflow("db", "migrate"))
        self._supervisor.start(airflow("api-server"))
        self._supervisor.start(airflow("dag-processor"))
        self._wait(self._api.is_up, "Airflow's API server must answer")
        # Runs of a stack that was killed; before the scheduler starts, which would continue them.
        for run in self._api.unfinished_runs():
            self._api.fail(run)
            print(f"{run}: left unfinished by an earlier stack, now marked as failed.", flush=True)
        self._api.make_pool("gpu", slots=1)
        self._supervisor.start(airflow("scheduler"))
        self._wait(self._api.has_dag, f"Airflow must read the DAG {_DAG}")
        self._wait(lambda: _read_or_none(f"{self._stack.mlflow_url}/health") is not None, "MLflow must answer")
        self._supervisor.start(self._stack.model_server())
        print(f"ready after {time.monotonic() - began:.0f} s.", flush=True)
        return source

    def _start_bucket(self, source: str) -> tuple[str, dict[str, str]]:
        """Serves a folder as a bucket, and returns the bucket's address and the endpoint of each bucket not on AWS."""
        if source.startswith("s3://"):
            return source, dict(self._settings.buckets)
        folder = Path(source)
        if source == "sample":
            folder = self._settings.workspace / "sample"
            print("rendering the sample bins ...", flush=True)
            self._supervisor.run(self._stack.sample(folder))
        elif not folder.is_dir():
            raise ConfigError(f'--source: must be "sample", a folder or s3://BUCKET, got {source!r}.')
        self._supervisor.start(self._stack.bucket(folder.resolve(), _BUCKET))
        return f"s3://{_BUCKET}", {**self._settings.buckets, _BUCKET: self._stack.bucket_url}

    def follow(self, params: Mapping[str, Any]) -> int:
        """Triggers the DAG, shows its tasks until the last has ended, and prints the result."""
        run = self._api.trigger(params)
        progress = TaskProgress(_TASKS)
        error_window = ErrorWindow(_START_TIMEOUT_S)
        failed: list[TaskState] = []
        state, asked = "queued", False
        with progress.context():
            while not failed and state not in FINAL_STATES:
                self._supervisor.check()
                time.sleep(0.5)
                with error_window:
                    tasks = self._api.tasks(run)
                    progress.show(tasks)
                    failed = [task for task in tasks if task.state == "failed"]
                    state = self._api.run_state(run)
                    if not asked and any(task.state == "awaiting_input" for task in tasks):
                        asked = True
                        print(f"A person must approve the version, in Required Actions.\n{self._login()}", flush=True)
        if failed or state == "failed":
            self._print_failure(run, failed)
            self._api.fail(run)  # this stack's scheduler may end before it does so
            return 1
        self._print_success(run)
        return 0

    def wait_until_stopped(self) -> None:
        """Keeps the stack up until a signal stops it or a component exits; from now on it watches the champion too."""
        # Its log server would listen on all addresses. It starts after the first run, which needs none and would wait.
        self._supervisor.start(self._stack.airflow("triggerer", "--skip-serve-logs", buckets={}))
        while True:
            self._supervisor.check()
            time.sleep(1)

    def _wait(self, condition: Callable[[], bool], rule: str) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not condition():
            self._supervisor.check()
            if time.monotonic() > deadline:
                logs = self._supervisor.logs
                raise StoreError(f"{rule}, got no answer within {_START_TIMEOUT_S} s. See the logs in {logs}.")
            time.sleep(0.2)

    def _print_failure(self, run: str, failed: list[TaskState]) -> None:
        for task in failed:
            print(f"\n{task.label} failed. Its log ends with:", file=sys.stderr)
            print("\n".join(self._api.log_lines(run, task)[-_LOG_LINES:]), file=sys.stderr, flush=True)
        if not failed:
            print("\nthe run failed before a task did. See it in Airflow.", file=sys.stderr, flush=True)
        print(f"\n{self._login()}", flush=True)

    def _login(self) -> str:
        return f"Airflow  {self._stack.airflow_url}  user {USER}  password {self._stack.password()}"

    def _print_success(self, run: str) -> None:
        answer, stack = self._api.result_of(run, "promote"), self._stack
        if not answer:
            answer = {**self._api.result_of(run, "gate"), "reason": "Not promoted: it was not approved."}
        print(f"\nversion {answer['model_version']}: {answer['reason']}")
        print(f"\n{self._login()}")
        print(f"MLflow   {stack.mlflow_url}  this run: {stack.mlflow_url}/#/runs/{answer['run_id']}")
        served = json.loads(_read_or_none(f"{stack.model_url}/model") or "{}").get("version")
        if served is None:
            print(f"Model    {stack.model_url}  waits for a first champion.", flush=True)
            return
        print(f"Model    {stack.model_url}  serves version {served}; ask it:")
        request = write_example_request(self._settings, answer["manifest"])
        print(f"\n{curl_of(stack.model_url, request)}", flush=True)


def _read_or_none(url: str) -> bytes | None:
    try:
        return read_url(url, timeout_s=30)
    except OSError:
        return None


def write_example_request(settings: Settings, manifest: str) -> Path:
    """Writes the JSON request of one test bin to the workspace.

    Args:
        settings: Where the workspace is.
        manifest: Digest of the manifest that the bin is taken from.

    Raises:
        DataError: If the manifest or its shard is damaged.
    """
    bins = read_manifest(settings, manifest)
    record = next(iter(bins.part("test")), bins.records[0])
    with (settings.shards / bins.shards[record.shard].name).open("rb") as shard:
        photo = decode_example(read_record(shard, record.offset))["image"]
    assert isinstance(photo, bytes)
    columns = {"columns": ["image"], "data": [[base64.b64encode(photo).decode()]]}
    path = settings.workspace / "request.json"
    path.write_text(json.dumps({"dataframe_split": columns}))
    return path


def curl_of(model_url: str, request: Path) -> str:
    """The shell line that sends a request; it works in any folder.

    Example:
        >>> curl_of("http://127.0.0.1:5001", Path("/a b/request.json"))
        "curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' --data '@/a b/request.json'"
    """
    header = "Content-Type: application/json"
    return shlex.join(["curl", "-s", f"{model_url}/invocations", "-H", header, "--data", f"@{request}"])


class ErrorWindow:
    """A context that suppresses StoreErrors until they have lasted for some time without a success between them.

    Args:
        duration_s: For how long; each success starts the time anew.
    """

    def __init__(self, duration_s: float) -> None:
        self._duration_s = duration_s
        self._failing_since: float | None = None

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """True if the error is suppressed."""
        if error is None:
            self._failing_since = None
        if not isinstance(error, StoreError):
            return False
        now = time.monotonic()
        self._failing_since = now if self._failing_since is None else self._failing_since
        return now - self._failing_since < self._duration_s


_WAITING = (None, "scheduled", "queued")
_MAX_ROWS = 20  # what a small terminal has room for
_MARKS = {"running": "▶", "success": "✔", "failed": "✘", "up_for_retry": "↻"}


class TaskProgress:
    """The states of a run's tasks: a live table on a terminal, else a line for each change.

    Args:
        order: The names of the tasks to show, in the order in which they run.
        live: Whether stdout is a terminal; detected where None.
    """

    def __init__(self, order: Sequence[str], live: bool | None = None) -> None:
        self._order = order
        self._live = sys.stdout.isatty() if live is None else live
        self._shown: dict[str, tuple[str | None, int]] = {}
        self._changed_at: dict[str, float] = {}
        self._screen: Any = None

    def context(self) -> AbstractContextManager[Any]:
        """The context in which `show` is called."""
        if not self._live:
            return nullcontext()
        from rich.live import Live

        self._screen = Live(refresh_per_second=4)
        return self._screen

    def show(self, tasks: Sequence[TaskState]) -> None:
        """Shows the tasks' present states."""
        listed = [task for task in tasks if task.name in self._order]
        listed.sort(key=lambda task: (self._order.index(task.name), task.map_index))
        for task in listed:
            now = (task.state, task.attempt)
            if self._shown.get(task.label) == now:
                continue
            self._shown[task.label] = now
            self._changed_at[task.label] = time.monotonic()
            if not self._live and task.state not in _WAITING:
                line = f"{task.label:<15} {task.state:<12} {self._duration(task):>8}  {_retry_note(task)}"
                print(f"{time.strftime('%H:%M:%S')}  {line}".rstrip(), flush=True)
        if self._screen is not None:
            self._screen.update(self.table(listed))

    def table(self, tasks: Sequence[TaskState]) -> Any:
        """The live table; of many mapped tasks it has only those that run or failed."""
        from rich.table import Table

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        crowded = len(tasks) > _MAX_ROWS
        for task in tasks:
            if crowded and task.map_index >= 0 and task.state in (*_WAITING, "success"):
                continue
            state = "" if task.state in _WAITING else str(task.state)
            table.add_row(_MARKS.get(state, "·"), task.label, state, self._duration(task), _retry_note(task))
        return table

    def _duration(self, task: TaskState) -> str:
        if task.state in _WAITING or task.state in ("skipped", "upstream_failed"):
            return ""
        if task.state == "running":  # Airflow still reports the duration of the attempt before
            return f"{time.monotonic() - self._changed_at[task.label]:.0f} s" if self._live else ""
        return f"{task.duration_s:.1f} s" if task.duration_s is not None else ""


def _retry_note(task: TaskState) -> str:
    return f"attempt {task.attempt}" if task.attempt > 1 else ""
