"""The DAG that goes back: its shape and its form."""

import pytest

from tests.dags.reading import read_dag

BAD = {"reason": ["", "x" * 501, 1], "model_version": [0, "3", 1.5]}
GOOD = {"reason": ["it counts tape", "'; rm -rf /"], "model_version": [None, 3]}


@pytest.fixture(scope="module")
def dag(tmp_path_factory):
    values = {name: BAD[name] + GOOD[name] for name in BAD}
    return read_dag(tmp_path_factory.mktemp("airflow"), "rollback_bin_counter", values)


def test_it_goes_back_once_and_verifies(dag):
    assert dag["errors"] == {}
    assert dag["edges"] == [["rollback", "verify_serving"]]
    assert dag["retries"] == {"rollback": 0, "verify_serving": 2}
    assert dag["told"]
    assert dag["max_active_runs"] == 1
    assert dag["params"] == {"model_version": None}  # the reason has no default: it is asked for
    assert not {"tensorflow", "mlflow", "numpy"} & set(dag["loaded"])


@pytest.mark.parametrize("name", BAD)
def test_the_form_refuses_what_is_wrong_and_nothing_else(dag, name):
    assert dag["refused"][name] == BAD[name]
