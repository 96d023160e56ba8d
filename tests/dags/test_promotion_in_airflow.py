"""Promotion and rollback in a real Airflow: approved, rejected, not answered, and who was told."""

import dataclasses
import json
import shutil
import time
from pathlib import Path

import pytest

from bincount.local.airflow_api import FINISHED, AirflowApi
from bincount.local.stack import USER, Ports, Stack
from bincount.local.supervisor import Supervisor
from bincount.registry.decision import new_decision, write_decision
from bincount.registry.promotion import history
from bincount.settings import Settings
from bincount.tracking import model_registry
from tests.processes import free_ports
from tests.serving.versions import register_version

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # MLflow wishes type hints of the models that these tests write, too.
    pytest.mark.filterwarnings("ignore:.*Add type hints to the `predict` method:UserWarning"),
]

# The end of train_bin_counter, for versions that are registered already.
PROMOTE = """
from airflow.sdk import Param, dag, get_current_context, task
from notices import notify_failure
from promotion import APPROVAL, promotion_of

@task
def registered():
    return {"model_version": str(get_current_context()["params"]["version"])}

@dag(schedule=None, params={**APPROVAL, "version": Param(1, type="integer")}, on_failure_callback=run_failed)
def promote_only():
    promotion_of(registered())

promote_only()
"""

TO_FILE = """
from airflow.sdk import BaseNotifier

class ToFile(BaseNotifier):
    template_fields = ("text",)

    def __init__(self, path, text):
        super().__init__()
        self.path, self.text = path, text

    def notify(self, context):
        with open(self.path, "a") as file:
            file.write(self.text + "\\n")
"""


class Stacked:
    """The stack with a DAG that promotes, and what a person does in its UI."""

    def __init__(self, place):
        self.told = place / "told.txt"
        self.told.touch()
        shutil.copytree(ROOT / "dags", place / "dags", ignore=shutil.ignore_patterns("__pycache__"))
        (place / "dags" / "promote_only.py").write_text(PROMOTE)
        (place / "dags" / "to_file.py").write_text(TO_FILE)
        ports = Ports(**dict(zip(("airflow", "mlflow", "model", "bucket"), free_ports(4), strict=True)))
        self.stack = Stack(ports, home=place / "airflow", mlruns=place / "mlruns", workspace=place / "data")
        (place / "mlruns").mkdir()
        self.settings = Settings(
            workspace=self.stack.workspace,
            tracking_uri=f"sqlite:///{place / 'mlruns' / 'mlflow.db'}",
            artifacts=place / "mlruns" / "artifacts",
        )
        broken = {"class": "os.path.join"}  # is logged, and holds up nothing
        to_file = {"class": "to_file.ToFile", "path": str(self.told), "text": "{{ message }}"}
        self.env = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(place / "dags"),
            "AIRFLOW__BINCOUNT__NOTIFIERS": json.dumps([broken, to_file]),
        }

    def airflow(self, *command):
        part = self.stack.airflow(*command, buckets={})
        return dataclasses.replace(part, env={**part.env, **self.env})

    def api(self, dag):
        return AirflowApi(self.stack.airflow_url, USER, self.stack.password(), dag)

    def start(self, supervisor):
        self.supervisor = supervisor
        supervisor.run(self.airflow("db", "migrate"))
        for part in (self.stack.mlflow(), self.airflow("api-server"), self.airflow("dag-processor")):
            supervisor.start(part)
        api = self.api("promote_only")
        self.wait(api.is_up)
        supervisor.start(self.airflow("scheduler"))
        supervisor.start(self.stack.model_server())
        self.wait(lambda: api.has_dag() and self.api("rollback_bin_counter").has_dag())

    def wait(self, condition, timeout_s=300):
        until = time.monotonic() + timeout_s
        while not (found := condition()):
            self.supervisor.check()
            assert time.monotonic() < until, "waited too long"
            time.sleep(0.5)
        return found

    def end_of(self, dag, run):
        """The states of a run and its tasks, once it has ended."""
        api = self.api(dag)
        self.wait(lambda: api.run_state(run) in FINISHED)
        return api.run_state(run), {task.name: task.state for task in api.tasks(run)}

    def question(self, run):
        """What a run asks a person."""
        api = self.api("promote_only")
        self.wait(lambda: {task.name: task.state for task in api.tasks(run)}.get("approve") == "awaiting_input")
        return api._call("GET", self.place_of(run))

    def answer(self, run, option, why):
        # Airflow 3.3.2 fails a task that is answered before its scheduler has heard that it waits; nobody is so fast.
        time.sleep(5)
        body = {"chosen_options": [option], "params_input": {"reason": why}}
        self.api("promote_only")._call("PATCH", self.place_of(run), body)

    def place_of(self, run):
        return f"/api/v2/dags/promote_only/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"

    def good(self, seed, against):
        """A version that the gate lets pass against a champion."""
        version, _ = register_version(self.settings, seed=seed)
        kept = new_decision(self.settings, against, agreed=True, reason=f"Promoted: {seed} reasons.")
        write_decision(self.settings, version, kept, "Gate", kept.reason)
        return version

    def tags(self, version):
        return model_registry.version_of(self.settings, version).tags


@pytest.fixture
def stacked(tmp_path):
    stacked = Stacked(tmp_path)
    with Supervisor(stacked.stack.home) as supervisor:
        yield stacked, supervisor


def test_who_becomes_champion_in_airflow(stacked):
    stacked, supervisor = stacked
    first = stacked.good(1, None)
    second, third, fourth = stacked.good(2, first), stacked.good(3, "2"), stacked.good(4, "2")
    stacked.start(supervisor)
    trigger = stacked.api("promote_only").trigger

    # Nobody is asked: nothing is in the way.
    state, tasks = stacked.end_of("promote_only", trigger({"version": 1}))
    assert state == "success"
    assert tasks.pop("approve") == "skipped"
    assert set(tasks.values()) == {"success"}, tasks
    assert model_registry.alias(stacked.settings, "champion") == first

    # Approved.
    run = trigger({"version": 2, "require_approval": True})
    question = stacked.question(run)
    assert question["subject"] == "May version 2 become champion instead of 1?"
    assert "Promoted: 2 reasons." in question["body"]
    stacked.answer(run, "Approve", "it sees tape")
    state, tasks = stacked.end_of("promote_only", run)
    assert state == "success"
    assert set(tasks.values()) == {"success"}, tasks
    latest = history(stacked.settings)["moves"][0]
    assert (latest["champion"], latest["instead_of"], latest["reason"]) == (second, first, "it sees tape")
    assert latest["actor"].lower() == USER

    # Rejected, and not answered.
    unanswered = trigger({"version": 4, "require_approval": True, "approval_minutes": 1})
    rejected = trigger({"version": 3, "require_approval": True})
    stacked.question(rejected)
    stacked.answer(rejected, "Reject", "no empty bins")
    for run, version, reason in [
        (rejected, third, "Not promoted: rejected by admin: no empty bins."),
        (unanswered, fourth, "Not promoted: rejected by timeout: nobody answered in time."),
    ]:
        state, tasks = stacked.end_of("promote_only", run)
        assert state == "success"
        assert tasks["approve"] == "success"
        assert [tasks["promote"], tasks["verify_serving"]] == ["skipped", "skipped"]
        assert stacked.tags(version)["bincount.reason"].replace("Admin", "admin") == reason
    assert model_registry.alias(stacked.settings, "champion") == second

    # Back again, and what a wrong run says.
    run = stacked.api("rollback_bin_counter").trigger({"reason": "it counts tape"})
    state, tasks = stacked.end_of("rollback_bin_counter", run)
    assert (state, set(tasks.values())) == ("success", {"success"})
    assert model_registry.alias(stacked.settings, "champion") == first
    assert history(stacked.settings)["moves"][0]["reason"] == "it counts tape"
    failed = trigger({"version": 999})
    assert stacked.end_of("promote_only", failed)[0] == "failed"

    stacked.wait(lambda: failed in stacked.told.read_text())
    told = stacked.told.read_text()
    for words in (
        "version 1 is champion instead of none, by admin: Promoted: 1 reasons.",
        "May version 2 become champion instead of 1?",
        "version 2 is champion instead of 1, by admin: it sees tape",
        "version 3: Not promoted: rejected by ",
        "version 1 is champion again: Rolled back to version 1 by ",
        f"promote_only: run {failed} failed",
    ):
        assert words in told, told
