"""`bincount up`: the whole chain on this machine, with its UIs and the model server."""

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
from bincount.dataset.manifest import Manifest
from bincount.dataset.shards import decode_example, read_record
from bincount.errors import ConfigError, StoreError
from bincount.local.airflow_api import FINISHED, AirflowApi, TaskState, ask
from bincount.local.stack import PORT_FLAGS, USER, Ports, Stack, check_ports
from bincount.local.supervisor import Part, Supervisor
from bincount.settings import Settings


def up(args: argparse.Namespace) -> int:
    """Starts the stack, runs the chain once and, unless `--once`, stays until it is stopped.

    Args:
        args: The flags of `UpConfig`, a port for each of `PORT_FLAGS`, and `once`.

    Returns:
        The exit status: 0 if the run was green, 1 if it failed, 130 if it was stopped before its end.

    Raises:
        ConfigError: If a flag is wrong, such as a taken port.
        StoreError: If a part of the stack ends or does not answer.
    """
    config = UpConfig(source=args.source, limit=args.limit, seed=args.seed, partitions=args.partitions)
    ports = Ports(**{name: getattr(args, f"{name}_port") for name in PORT_FLAGS})
    settings = Settings.from_env()
    stack = Stack(ports, workspace=settings.workspace)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, _stop)
    status = 130
    try:
        with Supervisor(stack.home) as supervisor:
            served = not config.source.startswith("s3://")
            check_ports({f"--{name}-port": getattr(ports, name) for name in PORT_FLAGS if served or name != "bucket"})
            run = ChainRun(supervisor, stack, settings)
            run.start(config.source)
            status = run.follow({**asdict(config), "source": run.source})
            if not args.once:
                print("\nCtrl-C stops everything.", flush=True)
                run.stay()
    except KeyboardInterrupt:
        print("\nstopped.", flush=True)
    return status


def _stop(*_: object) -> None:
    # What comes after the first must not break off the ending of the parts.
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    raise KeyboardInterrupt


_DAG = "train_bin_counter"
_TASKS = (
    *("plan", "fetch", "ingest", "extract", "prepare", "tune", "train", "evaluate", "register"),
    *("gate", "check_serving", "approve", "promote", "verify_serving"),
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
        self._forbearance = ErrorWindow(_START_S)
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
        progress = TaskTable(_TASKS)
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


def write_request(settings: Settings, manifest: str) -> Path:
    """Writes the JSON request of one test bin to the workspace.

    Args:
        settings: Where the workspace is.
        manifest: Digest of the manifest that the bin is taken from.

    Raises:
        DataError: If the manifest or its shard is not what it should be.
    """
    bins = Manifest.read(settings.manifests, manifest)
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
    """A context that swallows StoreErrors until nothing else has happened for a while.

    Args:
        seconds: How long; what goes well starts it anew.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._worn_since: float | None = None

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Says whether the error is borne with."""
        if not isinstance(error, StoreError):
            self._worn_since = None if error is None else self._worn_since
            return False
        now = time.monotonic()
        self._worn_since = now if self._worn_since is None else self._worn_since
        return now - self._worn_since < self._seconds


_WAITING = (None, "scheduled", "queued")
_ROWS = 20  # what a small terminal has room for
_MARKS = {"running": "▶", "success": "✔", "failed": "✘", "up_for_retry": "↻"}


class TaskTable:
    """A table that updates itself on a terminal, a line for each change elsewhere.

    Args:
        order: The names of the tasks to show, in the order in which they run.
        live: Whether there is a terminal; found out where None.
    """

    def __init__(self, order: Sequence[str], live: bool | None = None) -> None:
        self._order = order
        self._live = sys.stdout.isatty() if live is None else live
        self._shown: dict[str, tuple[str | None, int]] = {}
        self._since: dict[str, float] = {}
        self._screen: Any = None

    def context(self) -> AbstractContextManager[Any]:
        """What must be open while `show` is called."""
        if not self._live:
            return nullcontext()
        from rich.live import Live

        self._screen = Live(refresh_per_second=4)
        return self._screen

    def show(self, tasks: Sequence[TaskState]) -> None:
        """Takes the tasks as they are now."""
        tasks = sorted((one for one in tasks if one.name in self._order), key=self._place)
        for task in tasks:
            now = (task.state, task.attempt)
            if self._shown.get(task.label) == now:
                continue
            self._shown[task.label] = now
            self._since[task.label] = time.monotonic()
            if not self._live and task.state not in _WAITING:
                print(f"{time.strftime('%H:%M:%S')}  {self._line(task)}".rstrip(), flush=True)
        if self._screen is not None:
            self._screen.update(self._table(tasks))

    def _place(self, task: TaskState) -> tuple[int, int]:
        return self._order.index(task.name), task.map_index

    def _line(self, task: TaskState) -> str:
        again = f"attempt {task.attempt}" if task.attempt > 1 else ""
        return f"{task.label:<15} {task.state:<12} {self._seconds(task):>8}  {again}"

    def _seconds(self, task: TaskState) -> str:
        if task.state in _WAITING or task.state in ("skipped", "upstream_failed"):
            return ""
        if task.state == "running":  # Airflow tells the time of the attempt before
            seconds = time.monotonic() - self._since[task.label]
            return f"{seconds:.0f} s" if self._live else ""
        return f"{task.seconds:.1f} s" if task.seconds is not None else ""

    def _table(self, tasks: Sequence[TaskState]) -> Any:
        from rich.table import Table

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        crowded = len(tasks) > _ROWS
        for task in tasks:
            if crowded and task.map_index >= 0 and task.state in (*_WAITING, "success"):
                continue  # of many, those under way are of interest
            again = f"attempt {task.attempt}" if task.attempt > 1 else ""
            state = "" if task.state in _WAITING else str(task.state)
            table.add_row(_MARKS.get(state, "·"), task.label, state, self._seconds(task), again)
        return table
