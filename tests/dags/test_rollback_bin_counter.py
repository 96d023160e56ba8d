"""The DAG that goes back: its shape and its form."""

import json
import os
import subprocess
import sys

import pytest

from tests.dags.test_train_bin_counter import READ, ROOT

BAD = {"why": ["", "x" * 501, 1], "model_version": [0, "3", 1.5]}
GOOD = {"why": ["it counts tape", "'; rm -rf /"], "model_version": [None, 3]}


@pytest.fixture(scope="module")
def dag(tmp_path_factory):
    home = tmp_path_factory.mktemp("airflow")
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    source = READ.format(dags=str(ROOT / "dags")).replace("train_bin_counter", "rollback_bin_counter")
    source = source.replace("param.resolve() for", "isinstance(param.value, int | str | None) for")
    answer = subprocess.run(
        [sys.executable, "-c", source, json.dumps({name: BAD[name] + GOOD[name] for name in BAD})],
        env=env | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return json.loads(answer.stdout.splitlines()[-1])


def test_it_goes_back_once_and_verifies(dag):
    assert dag["errors"] == {}
    assert dag["edges"] == [["rollback", "verify_serving"]]
    assert dag["retries"] == {"rollback": 0, "verify_serving": 2}
    assert dag["told"]
    assert dag["max_active_runs"] == 1
    assert dag["params"] == {"why": False, "model_version": True}  # the reason has no default: it is asked for
    assert not {"tensorflow", "mlflow", "bincount", "numpy"} & set(dag["loaded"])


@pytest.mark.parametrize("name", BAD)
def test_the_form_refuses_what_is_wrong_and_nothing_else(dag, name):
    assert dag["refused"][name] == BAD[name]
