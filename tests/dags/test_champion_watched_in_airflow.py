"""Another champion starts a reconciliation in a real Airflow, whoever moved the alias: one run for each change."""

import dataclasses
import time

import pytest

from bincount.local.airflow_api import read_url
from bincount.local.supervisor import Supervisor
from bincount.tracking import model_registry
from bincount.tracking.client import mlflow_client
from tests.dags.airflow_stack import AirflowStack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore:.*Add type hints to the `predict` method:UserWarning"),
]

DAG = "reconcile_inventory"
ASSET = "bincount_champion"


def move_in_mlflow(stack, version):
    """Moves the alias by the REST call that MLflow's UI makes."""
    server = dataclasses.replace(stack.settings, tracking_uri=stack.stack.mlflow_url)
    with mlflow_client(server, "tests") as client:
        client.set_registered_model_alias(model_registry.MODEL, model_registry.CHAMPION, version)


def is_up(stack):
    try:
        return read_url(f"{stack.stack.mlflow_url}/health", timeout_s=10)
    except OSError:
        return False


def runs(stack):
    """The runs that the asset has started, the first one first."""
    path = f"/api/v2/dags/{DAG}/dagRuns?limit=100&order_by=id&run_type=asset_triggered"
    return [run["dag_run_id"] for run in stack.api(DAG).call("GET", path)["dag_runs"]]


def versions(stack):
    return [extra["payload"]["version"] for extra in stack.published(ASSET)]


def kept_version(stack):
    """The version that the trigger knows after a restart; None just before and after an event."""
    api = stack.api(DAG)
    (asset,) = [each for each in api.call("GET", "/api/v2/assets")["assets"] if each["name"] == ASSET]
    return api.call("GET", f"/api/v2/assets/{asset['id']}/state-store/version", missing={"value": None})["value"]


def seconds_until_run(stack, number):
    """The seconds until the run of that number has started."""
    began = time.monotonic()
    stack.wait(lambda: len(runs(stack)) == number, timeout_s=120)
    took = time.monotonic() - began
    print(f"run {number} of {DAG}: {took:.0f} s after the alias was moved")
    return took


def test_each_change_starts_one_run(tmp_path):
    stack = AirflowStack(tmp_path)
    first = stack.passing_version(1, None)
    second = stack.passing_version(2, "1")
    with Supervisor(stack.stack.home) as supervisor:
        stack.start(supervisor)
        stack.api(DAG).make_pool("gpu", slots=1)
        stack.wait(stack.api(DAG).has_dag)
        stack.wait(lambda: "1 watchers currently running" in supervisor.log_path("triggerer").read_text())
        assert runs(stack) == []

        # In MLflow's UI. No source is set, so the run has nothing to do.
        move_in_mlflow(stack, first)
        assert seconds_until_run(stack, 1) < 60
        assert stack.end_of(DAG, runs(stack)[0]) == ("success", {"reconcile": "skipped", "report_drift": "skipped"})

        # By a DAG: the version that it promotes is served, and the watcher alone publishes it.
        assert stack.end_of("promote_only", stack.api("promote_only").trigger({"version": int(second)}))[0] == "success"
        seconds_until_run(stack, 2)

        # While the triggerer is down: published once it is back, and once.
        supervisor.stop("triggerer")
        move_in_mlflow(stack, first)
        supervisor.start(stack.triggerer())
        seconds_until_run(stack, 3)

        # Once the version is kept, a restart repeats nothing.
        stack.wait(lambda: kept_version(stack) == first)
        supervisor.stop("triggerer")
        supervisor.start(stack.triggerer())

        # While MLflow is down, the trigger goes on asking.
        supervisor.stop("mlflow")
        stack.wait(lambda: "It is asked again in" in supervisor.log_path("triggerer").read_text())
        supervisor.start(stack.stack.mlflow())
        stack.wait(lambda: is_up(stack))
        move_in_mlflow(stack, second)
        seconds_until_run(stack, 4)
        time.sleep(30)
        assert versions(stack) == [first, second, first, second]
        assert len(runs(stack)) == 4
