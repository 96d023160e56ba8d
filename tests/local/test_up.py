"""`bincount up`: with real Airflow, MLflow and bucket and stand-ins for the verbs, and its parts alone."""

import json
import os
import re
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bincount.cli import parser
from bincount.counts import Counts
from bincount.dataset.manifest import Manifest, Record, Shard
from bincount.dataset.shards import encode_example, frame_record
from bincount.errors import ConfigError, StoreError
from bincount.local.airflow_api import TaskState
from bincount.local.up import ErrorWindow, TaskProgress, up, write_example_request
from bincount.settings import Settings
from tests.local.checkout import Checkout
from tests.processes import is_running, wait_until


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
def test_a_crash_a_task_marked_as_failed_and_a_run_that_promotes_nothing(checkout, monkeypatch):
    # Killed while a step runs: all is gone, step and components.
    process = checkout.up("wait")
    step = checkout.pids()
    components = checkout.components()
    assert all(map(is_running, [*step, *components]))
    assert listening_addresses(components) == {"0100007F"}, "127.0.0.1 and nothing else"
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(is_running, [*step, *components])), "step and components end", timeout_s=5)

    # The next one starts; a task that is marked as failed in Airflow ends within 10 s, and the run fails.
    process = checkout.up("wait", "--once")
    step = checkout.pids()
    api = checkout.api()
    (run,) = api.unfinished_runs()
    whole = {task.label for task in api.tasks(run)}
    monkeypatch.setattr("bincount.local.airflow_api._PAGE", 3)
    assert {task.label for task in api.tasks(run)} == whole
    assert {"ingest", "tune", "verify_serving"} < whole
    marked = time.monotonic()
    api.call("PATCH", f"/api/v2/dags/train_bin_counter/dagRuns/{run}/taskInstances/tune", {"new_state": "failed"})
    wait_until(lambda: not any(map(is_running, step)), "the step ends", timeout_s=10)
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - marked < 60
    assert process.returncode == 1
    assert "tune failed. Its log ends with:" in output
    assert "now marked as failed" in output, "the killed stack's run"
    assert checkout.components() == []

    # A successful run that promotes nothing; two tasks share fetching and features.
    process = checkout.up("go", "--once", "--partitions=2")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    for task in ("plan", "fetch[0]", "fetch[1]", "ingest", "extract[0]", "extract[1]", "prepare"):
        assert re.search(rf"{re.escape(task)} +success", output), output
    assert re.search(r"version \d+: it guesses\.", output), output
    assert {line.split()[1] for line in output.splitlines() if " skipped" in line} == {"approve"}
    assert checkout.components() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_person_is_asked_where_approval_is_required_and_a_rejection_is_told(checkout):
    process = checkout.up("agree", "--once", form={"require_approval": True})
    wait_until((checkout.root / ".airflow" / "passwords.json").exists, "the stack has a password", timeout_s=60)
    api, dag = checkout.api(), "/api/v2/dags/train_bin_counter/dagRuns"

    def waiting() -> list[dict]:
        with suppress(StoreError):
            return api.call("GET", f"{dag}/~/taskInstances?state=awaiting_input")["task_instances"]
        return []

    wait_until(waiting, "a person is asked", timeout_s=200)
    time.sleep(5)  # Airflow 3.3.2 fails a task that is answered before its scheduler has noticed that it waits
    question = f"{dag}/{waiting()[0]['dag_run_id']}/taskInstances/approve/-1/hitlDetails"
    api.call("PATCH", question, {"chosen_options": ["Reject"], "params_input": {"reason": "no empty bins"}})
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert "A person must approve the version, in Required Actions.\nAirflow  http://127.0.0.1:" in output
    assert "version 1: Not promoted: it was not approved." in output


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_failing_step_is_named_and_a_signal_ends_everything(checkout):
    process = checkout.up("fail", "--once")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "tune failed. Its log ends with:" in output
    assert "features: must be there, got none. Run prepare again." in output
    assert "attempt 2" not in output, "a DataError is not retried"
    assert checkout.components() == []

    process = checkout.up("wait")
    step, components = checkout.pids(), checkout.components()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert output.endswith("stopped.\n")
    assert not any(map(is_running, [*step, *components]))


def test_a_taken_port_is_refused_before_anything_starts(checkout):
    with socket.create_server(("127.0.0.1", checkout.ports["model"])):
        output, _ = checkout.up("go").communicate(timeout=30)
    assert f"--model-port: must be a free port of 127.0.0.1, got {checkout.ports['model']}" in output
    assert not (checkout.root / ".airflow" / "airflow.db").exists()


def test_too_many_partitions_are_refused_before_anything_starts():
    with pytest.raises(ConfigError, match="partitions: must be a whole number from 1 to 64, got 65"):
        up(parser().parse_args(["up", "--partitions=65"]))


def test_store_errors_are_suppressed_until_they_have_lasted_for_the_window():
    window = ErrorWindow(0.3)

    def call(error):
        with window:
            if error:
                raise error

    silence = StoreError("Airflow: must answer, got timed out.")
    call(silence)
    time.sleep(0.2)
    call(None)
    call(silence)
    time.sleep(0.2)
    call(silence)
    time.sleep(0.2)
    with pytest.raises(StoreError, match="timed out"):
        call(silence)
    with pytest.raises(ValueError, match="another"):
        call(ValueError("another"))


def test_progress_prints_each_change_once(capsys):
    progress = TaskProgress(("ingest", "tune"), live=False)
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


def test_progress_prints_each_mapped_task_and_only_the_tasks_named(capsys):
    mapped = [TaskState("fetch", "running", None, 1, index) for index in (1, 0)]
    tasks = [TaskState("ingest", "running", None, 1), *mapped, TaskState("plan", "success", 1.0, 1)]
    for order in (("plan", "fetch", "ingest"), ("ingest",)):
        TaskProgress(order, live=False).show(tasks)
    lines = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["plan", "fetch[0]", "fetch[1]", "ingest", "ingest"]


def test_of_many_mapped_tasks_the_table_shows_those_that_run_or_failed():
    states = ["success"] * 30 + ["running", "failed"] + ["queued"] * 30
    many = [TaskState("fetch", state, None, 1, index) for index, state in enumerate(states)]
    progress = TaskProgress(("fetch", "ingest"), live=True)
    for tasks, rows in ((many, 3), (many[25:35], 11)):
        tasks = [*tasks, TaskState("ingest", None, None, 0)]
        progress.show(tasks)
        assert progress.table(tasks).row_count == rows


def test_the_request_holds_a_test_bin_as_it_was_fetched(tmp_path):
    import base64

    settings = Settings(tmp_path, "sqlite://", tmp_path)
    settings.shards.mkdir()
    payloads = [
        frame_record(encode_example(bin_id=name, recorded=1, image=name.encode() * 9, metadata=b"{}")) for name in "ab"
    ]
    (settings.shards / "s.tfrecord").write_bytes(b"".join(payloads))
    records = [
        Record("a", "a", 1, "train", 1, 3, 3, 9, "", 0, 0),
        Record("b", "b", 1, "test", 1, 3, 3, 9, "", 0, len(payloads[0])),
    ]
    manifest = Manifest("s3://bins", Counts.parse("1-5"), [Shard("s.tfrecord", "0", 1)], records)
    path = write_example_request(settings, manifest.write(settings.manifests))
    ((photo,),) = json.loads(path.read_text())["dataframe_split"]["data"]
    assert base64.b64decode(photo) == b"b" * 9
