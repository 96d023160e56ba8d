"""Forms with an unknown key, or with fields that do not go together: the first task fails, however it was triggered."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """Runs Airflow's command on a database of its own."""
    home = tmp_path_factory.mktemp("airflow")
    known = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "BINCOUNT"))}
    own = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "BINCOUNT_WORKSPACE": str(home / "data"),
        "PYTHONPATH": str(ROOT),
    }

    def run(*words):
        command = [sys.executable, "-m", "airflow", *words]
        done = subprocess.run(command, env=known | own, capture_output=True, text=True, check=False, cwd=home)
        return done.stdout + done.stderr

    run("db", "migrate")
    return run


@pytest.mark.slow
def test_values_that_do_not_go_together_are_named_and_nothing_is_run(airflow):
    log = airflow("dags", "test", "train_bin_counter", "--conf", json.dumps({"search_fine_tuning": True}))
    assert "search_fine_tuning: must stand with fine_tune_epochs, got 0 of them." in log
    assert "-m bincount" not in log, "no step was started"


@pytest.mark.parametrize(
    ("dag", "conf", "key"),
    [
        ("train_bin_counter", {"source": "s3://bins", "max_epoch": 1}, "max_epoch"),
        pytest.param("train_bin_counter", {"Limit": 400, "require_aproval": True}, "Limit", marks=pytest.mark.slow),
        pytest.param(
            "reconcile_inventory", {"source": "s3://bins", "record": "stock.csv"}, "record", marks=pytest.mark.slow
        ),
        pytest.param(
            "rollback_bin_counter", {"reason": "it counts tape", "version": 3}, "version", marks=pytest.mark.slow
        ),
    ],
)
def test_a_mistyped_key_is_named_and_nothing_is_run(airflow, dag, conf, key):
    log = airflow("dags", "test", dag, "--conf", json.dumps(conf))
    assert f"form: must name fields of the form, got '{key}'. There are " in log
    assert "-m bincount" not in log, "no step was started"
    assert "DagRun failed" in log or "state=failed" in log
