"""Reconciling in a real Airflow: by its form, and because another champion answers; a drift is published."""

import dataclasses
import json

import pytest

from bincount.local.supervisor import Supervisor
from bincount.registry.promotion import promote
from bincount.tracking.client import mlflow_client
from tests.dags.airflow_stack import AirflowStack
from tests.reconcile.reconciled import FILES, darkened, registered, write_like_learned

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:.*Add type hints to the `predict` method:UserWarning"),
]

DAG = "reconcile_inventory"


class ReconcileStack(AirflowStack):
    """The stack with a bucket of photos that are darker than those the models learned from."""

    def __init__(self, place):
        super().__init__(place)
        self.bins = write_like_learned(place / "bins", darkened, bins=40)
        form = {"source": "s3://stock", "capacity": 3}
        self.env["AIRFLOW__BINCOUNT__RECONCILE_INVENTORY"] = json.dumps(form)

    def airflow(self, *command):
        part = self.stack.airflow(*command, buckets={"stock": self.stack.bucket_url})
        return dataclasses.replace(part, env={**part.env, **self.env})

    def start(self, supervisor):
        supervisor.start(self.stack.bucket(self.bins, "stock"))
        super().start(supervisor)
        self.api(DAG).make_pool("gpu", slots=1)
        self.wait(self.api(DAG).has_dag)

    def published(self, asset):
        """The extra of each event of an asset."""
        events = self.api(DAG).call("GET", "/api/v2/assets/events?limit=100")["asset_events"]
        return [event["extra"] for event in events if event["name"] == asset]

    def runs(self):
        """A run of the DAG for each run type."""
        found = self.api(DAG).call("GET", f"/api/v2/dags/{DAG}/dagRuns?limit=100")["dag_runs"]
        return {run["run_type"]: run["dag_run_id"] for run in found}


def test_a_person_and_a_new_champion_start_it(tmp_path):
    stack = ReconcileStack(tmp_path)
    settings = stack.settings
    first, second = (registered(settings, sharpness=4.0, seed=seed).rpartition("/")[2] for seed in (1, 2))
    for version in (first, second):
        promote(settings, model_version=version, force=True, reason="tests")
    (tmp_path / "data" / "records").mkdir()
    (tmp_path / "data" / "records" / "stock.csv").write_text("id,recorded\n30000,1\n30001,2\n30002,9\n")
    with Supervisor(stack.stack.home) as supervisor:
        stack.start(supervisor)
        api = stack.api(DAG)

        run = api.trigger({"records": "stock.csv", "error_rate": 0.1, "blind": True})
        assert stack.end_of(DAG, run) == ("success", {"reconcile": "success", "report_drift": "success"})
        by_hand = api.result_of(run, "reconcile")
        assert (by_hand["bins"], by_hand["judged"], by_hand["error_rate"], by_hand["blind"]) == (3, 2, 0.1, True)
        assert by_hand["model_version"] == second
        assert stack.published("bincount_drift") == []

        # Another champion, as soon as the model server answers with it.
        back = stack.api("rollback_bin_counter").trigger({"reason": "tests"})
        assert stack.end_of("rollback_bin_counter", back)[0] == "success"
        run = stack.wait(lambda: stack.runs().get("asset_triggered"))
        assert stack.end_of(DAG, run) == ("success", {"reconcile": "success", "report_drift": "success"})
        answer = api.result_of(run, "reconcile")
        assert (answer["bins"], answer["to_count"], answer["model_version"]) == (40, 3, first)
        (extra,) = stack.published("bincount_drift")
        assert extra["run_id"] == answer["run_id"]
        assert "brightness" in extra["facts"]

        with mlflow_client(settings, "tests") as client:
            kept = {each.path for each in client.list_artifacts(answer["run_id"], "reconcile")}
        assert kept == {f"reconcile/{name}" for name in FILES}
        stack.wait(lambda: "brightness" in stack.messages.read_text())
        (task,) = [task for task in api.tasks(run) if task.name == "reconcile"]
        log = "\n".join(api.log_lines(run, task))
        assert f"/#/runs/{answer['run_id']}" in log
        assert answer["says"] in log

        # A version that is not there: one sentence, no retry.
        failed = api.trigger({"model": "models:/bincount/99"})
        assert stack.end_of(DAG, failed)[0] == "failed"
