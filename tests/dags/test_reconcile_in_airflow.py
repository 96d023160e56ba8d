"""Reconciling in a real Airflow: by its form, and on another champion; drift is published, a late list reported."""

import dataclasses
import json
import time

import pytest

from bincount.local.supervisor import Supervisor
from bincount.registry.promotion import promote
from bincount.tracking.client import mlflow_client
from tests.dags.airflow_stack import AirflowStack
from tests.reconcile.reconciled import FILES, darkened, registered, write_like_learned

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore:.*Add type hints to the `predict` method:UserWarning"),
]

DAG = "reconcile_inventory"


class ReconcileStack(AirflowStack):
    """The stack with a bucket of photos that are darker than those the models learned from."""

    def __init__(self, place):
        super().__init__(place)
        self.bins = write_like_learned(place / "bins", darkened, bins=40)
        form = {"source": "s3://stock", "capacity": 3, "deadline_minutes": 0.05}
        self.env["AIRFLOW__BINCOUNT__RECONCILE_INVENTORY"] = json.dumps(form)

    def airflow(self, *command):
        part = self.stack.airflow(*command, buckets={"stock": self.stack.bucket_url})
        return dataclasses.replace(part, env={**part.env, **self.env})

    def start(self, supervisor):
        supervisor.start(self.stack.bucket(self.bins, "stock"))
        super().start(supervisor)
        self.api(DAG).make_pool("gpu", slots=1)
        self.wait(self.api(DAG).has_dag)

    def started_by_the_asset(self):
        """The runs that the asset has started, the first one first."""
        path = f"/api/v2/dags/{DAG}/dagRuns?limit=100&order_by=id&run_type=asset_triggered"
        return [run["dag_run_id"] for run in self.api(DAG).call("GET", path)["dag_runs"]]

    def late(self, run):
        """The notices that a run is late."""
        lines = self.messages.read_text().splitlines()
        return [line for line in lines if "must be ready by" in line and run in line]


def test_a_person_and_a_new_champion_start_it(tmp_path):
    stack = ReconcileStack(tmp_path)
    settings = stack.settings
    first, second = (registered(settings, sharpness=4.0, seed=seed).rpartition("/")[2] for seed in (1, 2))
    for version in (first, second):
        promote(settings, model_version=version, force=True, reason="tests")
    (tmp_path / "data" / "records").mkdir()
    (tmp_path / "data" / "records" / "stock.csv").write_text("id,recorded\n30000,1\n30001,2\n30002,9\n")
    ended_well = ("success", {"reconcile": "success", "report_drift": "success"})
    with Supervisor(stack.stack.home) as supervisor:
        stack.start(supervisor)
        api = stack.api(DAG)

        # The champion that Airflow finds when it starts for the first time.
        (run,) = stack.wait(stack.started_by_the_asset)
        assert stack.end_of(DAG, run) == ended_well
        answer = api.result_of(run, "reconcile")
        assert (answer["bins"], answer["to_count"], answer["model_version"]) == (40, 3, second)
        (extra,) = stack.published("bincount_drift")
        assert extra["run_id"] == answer["run_id"]
        assert "brightness" in extra["facts"]
        stack.wait(lambda: "brightness" in stack.messages.read_text())

        with mlflow_client(settings, "tests") as client:
            kept = {each.path for each in client.list_artifacts(answer["run_id"], "reconcile")}
        assert kept == {f"reconcile/{name}" for name in FILES}
        (task,) = [task for task in api.tasks(run) if task.name == "reconcile"]
        log = "\n".join(api.log_lines(run, task))
        assert f"/#/runs/{answer['run_id']}" in log
        assert answer["says"] in log
        links = api.call("GET", f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances/reconcile/links")["extra_links"]
        page = f"runs/{answer['run_id']}/artifacts/reconcile/report.html"
        assert links["Worklist"] == f"{stack.stack.mlflow_url}/#/experiments/{answer['experiment_id']}/{page}"

        by_hand = api.trigger({"records": "stock.csv", "error_rate": 0.1, "blind": True})
        assert stack.end_of(DAG, by_hand) == ended_well
        answer = api.result_of(by_hand, "reconcile")
        assert (answer["bins"], answer["judged"], answer["error_rate"], answer["blind"]) == (3, 2, 0.1, True)
        assert answer["model_version"] == second
        assert len(stack.published("bincount_drift")) == 1

        # Another champion.
        back = stack.api("rollback_bin_counter").trigger({"reason": "tests"})
        assert stack.end_of("rollback_bin_counter", back)[0] == "success"
        again = stack.wait(lambda: stack.started_by_the_asset()[1:])
        assert [stack.end_of(DAG, each) for each in again] == [ended_well]
        assert api.result_of(again[0], "reconcile")["model_version"] == first

        # A version that is not there: one sentence, no retry.
        failed = api.trigger({"model": "models:/bincount/99"})
        assert stack.end_of(DAG, failed)[0] == "failed"

        # Each run took longer than its three seconds, and was reported once.
        runs = [run, by_hand, *again, failed]
        stack.wait(lambda: all(stack.late(each) for each in runs))
        time.sleep(5)
        assert {each: len(stack.late(each)) for each in runs} == dict.fromkeys(runs, 1), stack.messages.read_text()
