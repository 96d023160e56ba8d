"""`bincount up` as a whole: real Airflow, MLflow and bucket, with steps that take no time."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bincount.cli import parser
from bincount.counts import Counts
from bincount.dataset.manifest import Manifest, Record, Shard
from bincount.dataset.shards import encode_example, frame
from bincount.errors import ConfigError, StoreError
from bincount.local.airflow_api import AirflowApi, TaskState
from bincount.local.up import ErrorWindow, TaskTable, up, write_request
from bincount.process.session_guard import session_members
from bincount.settings import Settings
from tests.processes import free_ports, is_running, wait_until

ROOT = Path(__file__).parents[2]

# What the chain's verbs answer in this test; `tune` waits for the test, with a child of its own.
STEPS = """
import json, logging, pathlib, signal, subprocess, sys, time

ANSWERS = {
    "plan": {"plan": "r", "shards": 5, "finished": False}, "fetch": {"shards": 3},
    "ingest": {"run_id": "abc", "manifest": "m"}, "prepare": {"features": "p"}, "tune": {}, "train": {},
    "evaluate": {}, "register": {"model_version": "1"}, "gate": {"agreed": False, "reason": "it guesses."},
    "promote": {"promoted": False, "reason": "it guesses."},
}

def main():
    verb, here = sys.argv[1], pathlib.Path(__file__).parents[1]
    if verb == "up":
        from bincount.real_cli import main as real
        real()
    if verb == "serve":
        time.sleep(3600)
    mode = (here / "mode").read_text()
    if verb == "tune" and mode == "wait":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (here / "pids.new").write_text(f"{__import__('os').getpid()} {child.pid}")
        (here / "pids.new").rename(here / "pids")
        time.sleep(600)
    if verb == "tune" and mode == "fail":
        print("features: must be there, got none. Run prepare again.", file=sys.stderr)
        raise SystemExit(3)
    print(json.dumps(ANSWERS[verb]))
"""


class Checkout:
    """A copy of the package whose steps are stand-ins, and what `bincount up` does there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports = dict(zip(("airflow", "mlflow", "model", "bucket"), free_ports(4), strict=True))
        for folder in ("bincount", "dags"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "mlruns").mkdir()
        (root / "bincount" / "cli.py").rename(root / "bincount" / "real_cli.py")
        (root / "bincount" / "cli.py").write_text(STEPS)
        for part, suffix in (("bin-images", "jpg"), ("metadata", "json")):
            (root / "bins" / part).mkdir(parents=True)
            (root / "bins" / part / f"1.{suffix}").write_text("x")
        self.process: subprocess.Popen | None = None

    def up(self, mode: str, *flags: str) -> subprocess.Popen:
        (self.root / "mode").write_text(mode)
        (self.root / "pids").unlink(missing_ok=True)
        ports = [f"--{name}-port={port}" for name, port in self.ports.items()]
        command = [sys.executable, "-m", "bincount", "up", f"--source={self.root / 'bins'}", *ports, *flags]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "BINCOUNT"))}
        self.process = subprocess.Popen(
            command,
            cwd=self.root,
            env=env | {"PYTHONPATH": str(self.root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.process

    def pids(self) -> list[int]:
        wait_until((self.root / "pids").exists, "the step starts", timeout_s=150)
        return [int(pid) for pid in (self.root / "pids").read_text().split()]

    def parts(self) -> list[int]:
        listed = json.loads((self.root / ".airflow" / "running.json").read_text())["sessions"]
        return [pid for session in listed for pid in session_members(session["pid"])]

    def api(self) -> AirflowApi:
        password = json.loads((self.root / ".airflow" / "passwords.json").read_text())["admin"]
        return AirflowApi(f"http://127.0.0.1:{self.ports['airflow']}", "admin", password, "train_bin_counter")


@pytest.fixture
def checkout(tmp_path):
    made = Checkout(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


def listening_addresses(pids: list[int]) -> set[str]:
    """The addresses, as /proc/net writes them, on which these processes listen."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].rpartition(":")[0])
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_crash_a_stop_from_the_ui_and_a_run_that_promotes_nothing(checkout, monkeypatch):
    # Killed while a step runs: all is gone, step and parts.
    process = checkout.up("wait")
    step = checkout.pids()
    parts = checkout.parts()
    assert all(map(is_running, [*step, *parts]))
    assert listening_addresses(parts) == {"0100007F"}, "127.0.0.1 and nothing else"
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(is_running, [*step, *parts])), "step and parts end", timeout_s=5)

    # The next one just works; what is marked as failed in Airflow ends within 10 seconds, and the run fails.
    process = checkout.up("wait", "--once")
    step = checkout.pids()
    api = checkout.api()
    (run,) = api.unfinished_runs()
    whole = {task.label for task in api.tasks(run)}
    monkeypatch.setattr("bincount.local.airflow_api._PAGE", 3)
    assert {task.label for task in api.tasks(run)} == whole
    assert {"ingest", "tune", "verify_serving"} < whole
    marked = time.monotonic()
    api._call("PATCH", f"/api/v2/dags/train_bin_counter/dagRuns/{run}/taskInstances/tune", {"new_state": "failed"})
    wait_until(lambda: not any(map(is_running, step)), "the step ends", timeout_s=10)
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - marked < 60
    assert process.returncode == 1
    assert "tune failed. Its log ends with:" in output
    assert "now marked as failed" in output, "the killed stack's run"
    assert checkout.parts() == []

    # Nothing promoted: green, and says why; two tasks share fetching and features.
    process = checkout.up("go", "--once", "--partitions=2")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    for task in ("plan", "fetch[0]", "fetch[1]", "ingest", "extract[0]", "extract[1]", "prepare"):
        assert re.search(rf"{re.escape(task)} +success", output), output
    assert "promoted: false. it guesses." in output
    assert "verify_serving  skipped" in output
    assert checkout.parts() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_failing_step_is_named_and_a_signal_ends_everything(checkout):
    process = checkout.up("fail", "--once")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "tune failed. Its log ends with:" in output
    assert "features: must be there, got none. Run prepare again." in output
    assert "attempt 2" not in output, "a DataError is not tried again"
    assert checkout.parts() == []

    process = checkout.up("wait")
    step, parts = checkout.pids(), checkout.parts()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert output.endswith("stopped.\n")
    assert not any(map(is_running, [*step, *parts]))


def test_a_taken_port_is_refused_before_anything_starts(checkout):
    with socket.create_server(("127.0.0.1", checkout.ports["model"])):
        output, _ = checkout.up("go").communicate(timeout=30)
    assert f"--model-port: must be a free port of 127.0.0.1, got {checkout.ports['model']}" in output
    assert not (checkout.root / ".airflow" / "airflow.db").exists()


def test_too_many_partitions_are_refused_before_anything_starts():
    with pytest.raises(ConfigError, match="partitions: must be a whole number from 1 to 64, got 65"):
        up(parser().parse_args(["up", "--partitions=65"]))


def test_a_silent_server_is_borne_with_for_a_while():
    forbearance = ErrorWindow(0.3)

    def ask(error):
        with forbearance:
            if error:
                raise error

    silence = StoreError("Airflow: must answer, got timed out.")
    ask(silence)
    time.sleep(0.2)
    ask(None)
    ask(silence)
    time.sleep(0.2)
    ask(silence)
    time.sleep(0.2)
    with pytest.raises(StoreError, match="timed out"):
        ask(silence)
    with pytest.raises(ValueError, match="another"):
        ask(ValueError("another"))


def test_progress_tells_each_change_once(capsys):
    progress = TaskTable(("ingest", "tune"), live=False)
    for state, seconds, attempt in [
        ("queued", None, 1),
        ("running", None, 1),
        ("running", None, 1),
        ("up_for_retry", 2.04, 1),
        ("success", 3.0, 2),
    ]:
        progress.show([TaskState("tune", None, None, 0), TaskState("ingest", state, seconds, attempt)])
    lines = [" ".join(line.split()[1:]) for line in capsys.readouterr().out.splitlines()]
    assert lines == ["ingest running", "ingest up_for_retry 2.0 s", "ingest success 3.0 s attempt 2"]


def test_progress_shows_each_mapped_task_and_none_that_is_not_asked_for(capsys):
    mapped = [TaskState("fetch", "running", None, 1, index) for index in (1, 0)]
    tasks = [TaskState("ingest", "running", None, 1), *mapped, TaskState("plan", "success", 1.0, 1)]
    for order in (("plan", "fetch", "ingest"), ("ingest",)):
        TaskTable(order, live=False).show(tasks)
    lines = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["plan", "fetch[0]", "fetch[1]", "ingest", "ingest"]


def test_of_many_mapped_tasks_a_terminal_shows_those_under_way():
    states = ["success"] * 30 + ["running", "failed"] + ["queued"] * 30
    many = [TaskState("fetch", state, None, 1, index) for index, state in enumerate(states)]
    progress = TaskTable(("fetch", "ingest"), live=True)
    for tasks, rows in ((many, 3), (many[25:35], 11)):
        tasks = [*tasks, TaskState("ingest", None, None, 0)]
        progress.show(tasks)
        assert progress._table(tasks).row_count == rows


def test_the_request_holds_a_test_bin_as_it_was_fetched(tmp_path):
    import base64

    settings = Settings(tmp_path, "sqlite://", tmp_path)
    settings.shards.mkdir()
    payloads = [
        frame(encode_example(bin_id=name, recorded=1, image=name.encode() * 9, metadata=b"{}")) for name in "ab"
    ]
    (settings.shards / "s.tfrecord").write_bytes(b"".join(payloads))
    records = [
        Record("a", "a", 1, "train", 1, 3, 3, 9, "", 0, 0),
        Record("b", "b", 1, "test", 1, 3, 3, 9, "", 0, len(payloads[0])),
    ]
    manifest = Manifest("s3://bins", Counts.parse("1-5"), [Shard("s.tfrecord", "0", 1)], records)
    path = write_request(settings, manifest.write(settings.manifests))
    ((photo,),) = json.loads(path.read_text())["dataframe_split"]["data"]
    assert base64.b64decode(photo) == b"b" * 9
