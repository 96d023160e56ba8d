"""The time that Airflow adds to a task.

    python -m benchmarks.orchestration [--bins 100] [--repeats 2] [--quick] [--json FILE]

The tasks of the DAG from `plan` to `register` on rendered bins, with a bucket and an MLflow server, in an order that
alternates between repeats: as tasks of `bincount up --once`; by hand, one `bincount VERB` after the other with the
commands of the tasks; and as `bincount run`, one process for all. Each runs in a copy of the checkout; the start of
Airflow is not counted. A few bins are enough, since Airflow's overhead does not depend on them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import CHECKOUT, Ratio, machine, parser_of, publish, run_process, spread
from benchmarks.stage import NEEDS

TASKS = {
    "plan": "plan",
    "fetch": "fetch",
    "ingest": "ingest",
    "extract": "prepare",
    "prepare": "prepare",
    "tune": "tune",
    "train": "train",
    "evaluate": "evaluate",
    "register": "register",
}
"""The verb of each task."""
SHARES = {"fetch": "--share=1/1", "extract": "--share=1/1"}
AIRFLOW, BY_HAND, RUN = "tasks in Airflow", "bincount VERB by hand", "bincount run"


class Copy:
    """A copy of the checkout with an empty state."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        self.source = source
        for package in ("bincount", "dags"):
            shutil.copytree(CHECKOUT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "mlruns").mkdir()
        kept = ("PATH", "HOME", "LANG", "SSL_CERT_FILE")
        self.env = {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONPATH": str(folder)}
        self.env |= {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def bincount(self, *arguments: str, **env: str) -> tuple[float, str]:
        """Runs the copy's command; returns its seconds and its output."""
        # Python imports the package from the working directory.
        spent, output = run_process([sys.executable, "-m", "bincount", *arguments], env=self.env | env, cwd=self.folder)
        return spent.wall_s, output

    @contextlib.contextmanager
    def servers(self) -> Iterator[dict[str, str]]:
        """Bucket and MLflow as `bincount up` starts them; yields the environment of a step."""
        from bincount.local.stack import Ports, Stack
        from bincount.local.supervisor import Supervisor

        ports = Ports(*free_ports())
        stack = Stack(ports, self.folder / ".airflow", self.folder / "mlruns", self.folder / "data")
        components = [stack.bucket(self.source, "bins"), stack.mlflow()]
        with Supervisor(stack.home) as supervisor:
            for component in components:
                supervisor.start(component)
            for port in (ports.bucket, ports.mlflow):
                wait_for(port)
            yield {"MLFLOW_TRACKING_URI": stack.mlflow_url, "BINCOUNT_BUCKETS": json.dumps({"bins": stack.bucket_url})}


def in_airflow(copy: Copy) -> dict[str, Any]:
    """The tasks' own times and the gaps between them, from Airflow's database."""
    names = ("airflow", "mlflow", "model", "bucket")
    flags = [f"--{name}-port={port}" for name, port in zip(names, free_ports(), strict=True)]
    copy.bincount("up", "--once", f"--source={copy.source}", *flags)
    with contextlib.closing(sqlite3.connect(copy.folder / ".airflow" / "airflow.db")) as database:
        rows = database.execute("SELECT task_id, start_date, end_date FROM task_instance").fetchall()
        queued, began = database.execute("SELECT queued_at, start_date FROM dag_run").fetchone()
    times = {task: (_seconds(start), _seconds(end)) for task, start, end in rows if task in TASKS}
    ends = [_seconds(queued or began), *(times[task][1] for task in TASKS)]
    gaps = {task: times[task][0] - before for task, before in zip(TASKS, ends, strict=False)}
    return {
        "total_s": ends[-1] - ends[0],
        "tasks_s": {task: times[task][1] - times[task][0] for task in TASKS},
        "gaps_s": gaps,
    }


def by_hand(copy: Copy) -> dict[str, Any]:
    """One process for each task."""
    so_far: dict[str, Any] = {}
    tasks = {}
    with copy.servers() as env:
        for task, verb in TASKS.items():
            needs = ("plan",) if verb == "fetch" else NEEDS.get(verb, ())
            flags = [f"--{name.replace('_', '-')}={so_far[name]}" for name in needs]
            flags += ["--source=s3://bins"] if verb in ("plan", "ingest") else []
            flags += [SHARES[task]] if task in SHARES else []
            tasks[task], output = copy.bincount(verb, *flags, **env)
            so_far |= json.loads(output)
    return {"total_s": sum(tasks.values()), "tasks_s": tasks}


def in_one(copy: Copy) -> dict[str, Any]:
    """All steps in one process, without the promotion at the end."""
    with copy.servers() as env:
        command = [sys.executable, "-m", "bincount", "run", "--source=s3://bins"]
        began = time.monotonic()
        done = subprocess.run(command, env=copy.env | env, cwd=copy.folder, capture_output=True, text=True, check=False)
        total_s = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{command}: exit {done.returncode}.\n{done.stderr[-3000:]}")
    took = {step: float(seconds) for step, seconds in re.findall(r"(\w+): done in ([\d.]+) s", done.stderr)}
    return {"total_s": total_s - took.pop("promote"), "tasks_s": took}


def _seconds(date: str) -> float:
    return datetime.fromisoformat(date).timestamp()


def free_ports() -> list[int]:
    """Four free ports."""
    with contextlib.ExitStack() as held:
        taken = [held.enter_context(socket.socket()) for _ in range(4)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def wait_for(port: int) -> None:
    """Waits until a server listens on a port."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit(f"port {port}: nothing listens after 120 s")


def measure(bins: int, repeats: int) -> dict[str, list[dict]]:
    """Runs all three ways in each repeat."""
    runs_by_way: dict[str, list[dict]] = {AIRFLOW: [], BY_HAND: [], RUN: []}
    ways = {AIRFLOW: in_airflow, BY_HAND: by_hand, RUN: in_one}
    with tempfile.TemporaryDirectory(prefix="bench-orchestration-") as folder:
        sample = Path(folder) / "sample"
        print(f"  rendering {bins} bins ...", flush=True)
        run_process([sys.executable, "-m", "bincount.local.sample.render", f"--folder={sample}", f"--bins={bins}"])
        for repeat in range(repeats):
            for name in [*ways][::-1] if repeat % 2 else [*ways]:
                work = Path(folder) / f"{repeat}-{len(runs_by_way[name])}-{name.replace(' ', '-')}"
                work.mkdir()
                print(f"  {name} ...", flush=True)
                runs_by_way[name].append(ways[name](Copy(work, sample)))
                shutil.rmtree(work)
                print(f"  {name:24} {runs_by_way[name][-1]['total_s']:6.1f} s", flush=True)
    return runs_by_way


def ratios_of(runs_by_way: dict[str, list[dict]]) -> list[Ratio]:
    """Seconds that Airflow adds to a task, and the total relative to the other ways."""
    tasks = len(TASKS)
    gaps = [statistics.median(run["gaps_s"].values()) for run in runs_by_way[AIRFLOW]]
    pairs = {name: list(zip(runs_by_way[AIRFLOW], runs_by_way[name], strict=True)) for name in (BY_HAND, RUN)}
    added = [(mine["total_s"] - other["total_s"]) / tasks for mine, other in pairs[BY_HAND]]
    return [
        Ratio.of("seconds from one task's end to the next one's start", gaps, "2 or less"),
        Ratio.of("seconds that Airflow adds to a task, against each step by hand", added, "2 or less"),
        *(
            Ratio.of(
                f"times as long in Airflow as {name}", [mine["total_s"] / other["total_s"] for mine, other in both]
            )
            for name, both in pairs.items()
        ),
    ]


def report(runs_by_way: dict[str, list[dict]], bins: int) -> str:
    """The table of all times."""
    lines = [
        f"{bins} rendered bins, ResNet50.",
        "",
        f"| s | {' | '.join(TASKS)} | all |",
        f"|{'---|' * (len(TASKS) + 2)}",
    ]
    for name, runs in runs_by_way.items():
        times = [[run["tasks_s"][task] for run in runs if task in run["tasks_s"]] for task in TASKS]
        cells = [spread(values) if values else "" for values in times]
        lines.append(f"| {name} | {' | '.join(cells)} | {spread([run['total_s'] for run in runs])} |")
    gaps = [spread([run["gaps_s"][task] for run in runs_by_way[AIRFLOW]]) for task in TASKS]
    lines.append(f"| Airflow, before the task | {' | '.join(gaps)} | |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--bins", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    here = machine()
    if options.quick:
        options.repeats = 1
    runs_by_way = measure(options.bins, options.repeats)
    publish(options, ratios_of(runs_by_way), report(runs_by_way, options.bins), runs_by_way, here)


if __name__ == "__main__":
    main()
