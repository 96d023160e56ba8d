"""Reconciling in a real Airflow: by its form, and because another champion answers; a drift is published."""

import dataclasses
import json

import pytest

from bincount.local.supervisor import Supervisor
from bincount.registry.promotion import promote
from bincount.tracking.client import mlflow_client
from tests.dags.test_promotion_in_airflow import Stacked
from tests.reconcile.reconciled import registered
from tests.reconcile.test_reconcile import FILES
from tests.reconcile.test_tracked_reconcile import darkened, write_like_learned

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:.*Add type hints to the `predict` method:UserWarning"),
]

DAG = "reconcile_inventory"


class Reconciling(Stacked):
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
        """What was said with each event of an asset."""
        events = self.api(DAG)._call("GET", "/api/v2/assets/events?limit=100")["asset_events"]
        return [event["extra"] for event in events if event["name"] == asset]

    def runs(self):
        """The DAG's runs by how they came about."""
        found = self.api(DAG)._call("GET", f"/api/v2/dags/{DAG}/dagRuns?limit=100")["dag_runs"]
        return {run["run_type"]: run["dag_run_id"] for run in found}


def test_a_person_and_a_new_champion_start_it(tmp_path):
    stacked = Reconciling(tmp_path)
    settings = stacked.settings
    first, second = (registered(settings, sharpness=4.0, seed=seed).rpartition("/")[2] for seed in (1, 2))
    for version in (first, second):
        promote(settings, model_version=version, force=True, reason="tests")
    (tmp_path / "data" / "records").mkdir()
    (tmp_path / "data" / "records" / "stock.csv").write_text("id,recorded\n30000,1\n30001,2\n30002,9\n")
    with Supervisor(stacked.stack.home) as supervisor:
        stacked.start(supervisor)
        api = stacked.api(DAG)

        run = api.trigger({"records": "stock.csv", "error_rate": 0.1, "blind": True})
        assert stacked.end_of(DAG, run) == ("success", {"reconcile": "success", "report_drift": "skipped"})
        by_hand = api.answer_of(run, "reconcile")
        assert (by_hand["bins"], by_hand["judged"], by_hand["error_rate"], by_hand["blind"]) == (3, 2, 0.1, True)
        assert by_hand["model_version"] == second
        assert stacked.published("bincount_drift") == []

        # Another champion, as soon as the model server answers with it.
        back = stacked.api("rollback_bin_counter").trigger({"reason": "tests"})
        assert stacked.end_of("rollback_bin_counter", back)[0] == "success"
        run = stacked.wait(lambda: stacked.runs().get("asset_triggered"))
        assert stacked.end_of(DAG, run) == ("success", {"reconcile": "success", "report_drift": "success"})
        answer = api.answer_of(run, "reconcile")
        assert (answer["bins"], answer["to_count"], answer["model_version"]) == (40, 3, first)
        (extra,) = stacked.published("bincount_drift")
        assert extra["run_id"] == answer["run_id"]
        assert "brightness" in extra["facts"]

        with mlflow_client(settings, "tests") as client:
            kept = {each.path for each in client.list_artifacts(answer["run_id"], "reconcile")}
        assert kept == {f"reconcile/{name}" for name in FILES}
        stacked.wait(lambda: "brightness" in stacked.told.read_text())
        (task,) = [task for task in api.tasks(run) if task.name == "reconcile"]
        log = "\n".join(api.log_of(run, task))
        assert f"/#/runs/{answer['run_id']}" in log
        assert answer["says"] in log

        # A version that is not there: one sentence, no retry.
        failed = api.trigger({"model": "models:/bincount/99"})
        assert stacked.end_of(DAG, failed)[0] == "failed"
