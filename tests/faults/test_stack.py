"""kill -9 of Airflow's scheduler and of MLflow's server during a run, and two runs at once, with real processes."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bincount.learn.tune import tune
from bincount.local.airflow_api import FINAL_STATES, AirflowApi, read_url
from bincount.local.stack import USER, Ports, Stack
from bincount.local.supervisor import Supervisor
from bincount.tracking import runs
from tests.learn.featured import open_prepared_run
from tests.local.checkout import Checkout
from tests.processes import free_ports, is_running, wait_until
from tests.stores import make_settings

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    # KerasTuner 1.4.8 names its threads as Python 2 did.
    pytest.mark.filterwarnings(r"ignore:(currentThread|getName)\(\) is deprecated:DeprecationWarning"),
]
WAIT_S = 900  # a busy machine takes long to start Airflow; an idle one half a minute

# Stand-ins for the verbs of the command line: `tune` waits for a file, `train` fails once.
STEPS = """
import json, os, pathlib, sys, time

ANSWERS = {
    "plan": {"plan": "p", "shards": 1, "finished": False}, "fetch": {"shards": 1},
    "ingest": {"run_id": "abc", "manifest": "m"}, "prepare": {"features": "p"}, "tune": {}, "train": {},
    "evaluate": {}, "register": {"model_version": "1"},
    "gate": {"agreed": False, "outcome": "refused", "reason": "it guesses.", "against": "none", "comparison": ""},
    "promote": {"promoted": False, "reason": "it guesses."},
}

def main():
    verb, here = sys.argv[1], pathlib.Path(__file__).parents[1]
    with (here / "calls").open("a") as file:
        file.write(f"{verb} begins\\n")
    if verb == "tune":
        (here / "pid").write_text(str(os.getpid()))
        while not (here / "go").exists():
            time.sleep(0.1)
    if verb == "train" and not (here / "failed once").exists():
        (here / "failed once").touch()
        print("s3://bins: must answer, got nothing. Run again later.", file=sys.stderr)
        raise SystemExit(4)
    with (here / "calls").open("a") as file:
        file.write(f"{verb} ends\\n")
    print(json.dumps(ANSWERS[verb]))
"""


class Airflow:
    """Airflow in a copy of the checkout with stand-ins for the verbs."""

    def __init__(self, root):
        self.root = root
        for folder in ("bincount", "dags"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "bincount" / "cli.py").write_text(STEPS)
        ports = Ports(**dict(zip(("airflow", "mlflow", "model", "bucket"), free_ports(4), strict=True)))
        self.stack = Stack(ports, home=root / "airflow", mlruns=root / "mlruns", workspace=root / "data")
        self.env = {
            "PYTHONPATH": str(root),
            "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
            # Seconds until tasks of a dead scheduler are retried; 5 minutes by default.
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        }
        self.api = AirflowApi(self.stack.airflow_url, USER, "", "train_bin_counter")

    def component(self, *command):
        component = self.stack.airflow(*command, buckets={})
        return dataclasses.replace(component, env={**component.env, **self.env})

    def start(self, supervisor):
        supervisor.run(self.component("db", "migrate"))
        self.api = AirflowApi(self.stack.airflow_url, USER, self.stack.password(), "train_bin_counter")
        for name in ("api-server", "dag-processor"):
            supervisor.start(self.component(name))
        wait_until(self.api.is_up, "the API server answers", WAIT_S)
        self.api.make_pool("gpu", slots=1)
        supervisor.start(self.component("scheduler"))
        wait_until(self.api.has_dag, "the DAG is read", WAIT_S)

    def pid(self):
        wait_until((self.root / "pid").exists, "tune starts", WAIT_S)
        return int((self.root / "pid").read_text())

    def calls(self):
        return (self.root / "calls").read_text().splitlines()

    def states(self, run):
        return {task.name: task.state for task in self.api.tasks(run)}


def trial_states(settings, run_id):
    """MLflow's status of each trial of a search."""
    client = MlflowClient(settings.tracking_uri)
    experiment = client.get_run(run_id).info.experiment_id
    trials = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    return [run.info.status for run in trials]


def kill(supervisor, name):
    process = supervisor._running[name]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_the_scheduler_is_killed_and_two_runs_follow_one_another(tmp_path, monkeypatch):
    airflow = Airflow(tmp_path)
    monkeypatch.chdir(tmp_path)  # so that `python -m bincount` is the copy
    with Supervisor(airflow.stack.home) as supervisor:
        airflow.start(supervisor)
        first, second = airflow.api.trigger({}), airflow.api.trigger({})
        step = airflow.pid()
        assert [airflow.api.run_state(run) for run in (first, second)] == ["running", "queued"]

        kill(supervisor, "scheduler")
        wait_until(lambda: not is_running(step), "the step ends with its scheduler", 5)
        assert airflow.calls()[-1] == "tune begins"
        (tmp_path / "pid").unlink()
        supervisor.start(airflow.component("scheduler"))
        assert airflow.pid() != step, "it is retried"
        (tmp_path / "go").touch()

        for run in (first, second):
            wait_until(lambda run=run: airflow.api.run_state(run) in FINAL_STATES, "the run ends", WAIT_S)
            assert airflow.api.run_state(run) == "success", airflow.states(run)
            assert airflow.states(run)["promote"] == "success"
        calls = airflow.calls()
    # Only the steps that were killed or failed ran again, and the runs did not mix.
    once = ["plan", "fetch", "ingest", "prepare", "prepare"]  # extract runs the verb prepare
    once += ["tune", "train", "evaluate", "register", "gate", "promote"]
    ended = [line.split()[0] for line in calls if line.endswith("ends")]
    assert ended == once + once
    begun = [line.split()[0] for line in calls if line.endswith("begins")]
    assert sorted(begun) == sorted([*once, *once, "tune", "train"])


@pytest.mark.parametrize("name", ["scheduler", "mlflow"])
def test_bincount_up_names_the_component_that_died_and_ends_the_others(tmp_path, name):
    checkout = Checkout(tmp_path)
    process = checkout.up("wait")
    try:
        wait_until((checkout.root / "pids").exists, "the step starts", WAIT_S)
        step, components = checkout.pids(), checkout.components()
        killed = [pid for pid in components if name in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")]
        os.kill(min(killed), signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode not in (0, None)
    assert f"{name}: must keep running, got exit code -9. See " in output
    assert not any(map(is_running, [*step, *components]))


def test_mlflow_is_killed_during_a_search_and_comes_back(tmp_path):
    settings = make_settings(tmp_path)
    run_id, prepared = open_prepared_run(settings)
    ports = Ports(**dict(zip(("airflow", "mlflow", "model", "bucket"), free_ports(4), strict=True)))
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlflow.db").rename(tmp_path / "mlruns" / "mlflow.db")
    settings = dataclasses.replace(settings, tracking_uri=f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}")
    stack = Stack(ports, home=tmp_path / "home", mlruns=tmp_path / "mlruns", workspace=settings.workspace)
    served = dataclasses.replace(settings, tracking_uri=stack.mlflow_url)
    search = {"trials": 3, "max_epochs": 40}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in search.items()]
    command = [sys.executable, "-m", "bincount", "tune", f"--run-id={run_id}", f"--features={prepared}", *flags]
    environment = {**os.environ, **served.environment(), "PYTHONPATH": str(ROOT)}

    def answers():
        try:
            return bool(read_url(f"{stack.mlflow_url}/health", timeout_s=2))
        except OSError:
            return False

    with Supervisor(stack.home) as supervisor:
        supervisor.start(stack.mlflow())
        wait_until(answers, "MLflow answers", WAIT_S)
        undisturbed = tune(served, run_id=runs.open_run(served), features=prepared, **search)
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as step:
            wait_until(lambda: len(trial_states(settings, run_id)) == 2, "the second trial begins", WAIT_S)
            kill(supervisor, "mlflow")
            began = time.monotonic()
            _, log = step.communicate(timeout=120)
        assert step.returncode == 4, log[-2000:]
        assert time.monotonic() - began < 60
        assert f"the tracking server at {stack.mlflow_url} must answer" in log.strip().splitlines()[-1]
        supervisor.start(stack.mlflow())
        wait_until(answers, "MLflow answers again", WAIT_S)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert json.loads(done.stdout) == undisturbed
    assert set(trial_states(settings, run_id)) == {"FINISHED"}
