"""The one-machine stack with Airflow, MLflow and the model server, for tests of the DAGs."""

import dataclasses
import json
import shutil
import time
from pathlib import Path

from bincount.local.airflow_api import FINAL_STATES, AirflowApi
from bincount.local.stack import USER, Ports, Stack
from bincount.registry.decision import new_decision, write_decision
from bincount.settings import Settings
from bincount.tracking import model_registry
from tests.processes import free_ports
from tests.serving.versions import register_version

ROOT = Path(__file__).parents[2]

# The last tasks of train_bin_counter, for a version that is registered already.
PROMOTE = """
from airflow.sdk import Param, dag, get_current_context, task
from notices import notify_failure
from promotion import APPROVAL, promotion_of

@task
def registered():
    return {"model_version": str(get_current_context()["params"]["version"])}

@dag(schedule=None, params={**APPROVAL, "version": Param(1, type="integer")}, on_failure_callback=notify_failure)
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


class AirflowStack:
    """The one-machine stack with a DAG that only promotes, and the answers that a person gives in its UI."""

    def __init__(self, place):
        self.messages = place / "messages.txt"
        self.messages.touch()
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
        broken = {"class": "os.path.join"}  # is logged and ignored
        to_file = {"class": "to_file.ToFile", "path": str(self.messages), "text": "{{ message }}"}
        self.env = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(place / "dags"),
            "AIRFLOW__BINCOUNT__NOTIFIERS": json.dumps([broken, to_file]),
        }

    def airflow(self, *command):
        part = self.stack.airflow(*command, buckets={})
        return dataclasses.replace(part, env={**part.env, **self.env})

    def triggerer(self):
        return self.airflow("triggerer", "--skip-serve-logs")

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
        supervisor.start(self.triggerer())
        supervisor.start(self.stack.model_server())
        self.wait(lambda: api.has_dag() and self.api("rollback_bin_counter").has_dag())

    def published(self, asset):
        """The extra of each event of an asset, the first one first."""
        told = self.api("promote_only").call("GET", "/api/v2/assets/events?limit=100&order_by=timestamp")
        return [event["extra"] for event in told["asset_events"] if event["name"] == asset]

    def wait(self, condition, timeout_s=300):
        """Waits until a condition is true, and returns its value."""
        until = time.monotonic() + timeout_s
        while not (value := condition()):
            self.supervisor.check()
            assert time.monotonic() < until, "waited too long"
            time.sleep(0.5)
        return value

    def end_of(self, dag, run):
        """The states of a run and its tasks, once it has ended."""
        api = self.api(dag)
        self.wait(lambda: api.run_state(run) in FINAL_STATES)
        return api.run_state(run), {task.name: task.state for task in api.tasks(run)}

    def question(self, run):
        """The question that a run asks a person."""
        api = self.api("promote_only")
        self.wait(lambda: {task.name: task.state for task in api.tasks(run)}.get("approve") == "awaiting_input")
        return api.call("GET", self.question_path(run))

    def answer(self, run, option, why):
        # Airflow 3.3.2 fails a task that is answered before its scheduler has noticed that it waits.
        time.sleep(5)
        body = {"chosen_options": [option], "params_input": {"reason": why}}
        self.api("promote_only").call("PATCH", self.question_path(run), body)

    def question_path(self, run):
        return f"/api/v2/dags/promote_only/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"

    def passing_version(self, seed, against):
        """A version that the gate accepts instead of a champion."""
        version, _ = register_version(self.settings, seed=seed)
        decision = new_decision(self.settings, against, outcome="accepted", reason=f"Promoted: {seed} reasons.")
        write_decision(self.settings, version, decision, "Gate", decision.reason)
        return version

    def tags(self, version):
        return model_registry.version_of(self.settings, version).tags
