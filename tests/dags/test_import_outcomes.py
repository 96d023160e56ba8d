"""The DAG that imports counts: its shape and its form."""

import pytest

from bincount.config import OutcomesConfig
from bincount.schema import settings_of
from tests.dags.reading import read_dag

BAD = {
    "file": ["", "/etc/passwd", "../counts.csv", "-x.csv", "counts.xlsx", "a.csv --track"],
    "worklist": ["worklist", "../0a", "0" * 31],
    "count_cost": [-1, "much"],
    "miss_cost": [-0.5],
}
GOOD = {
    "file": ["counts.csv", "2026-11-22.parquet"],
    "worklist": [None, "0" * 32],
    "count_cost": [None, 2],
    "miss_cost": [None, 40],
}


@pytest.fixture(scope="module")
def dag(tmp_path_factory):
    return read_dag(
        tmp_path_factory.mktemp("airflow"), "import_outcomes", {name: BAD[name] + GOOD[name] for name in BAD}
    )


def test_it_imports_then_reports_a_decay(dag):
    assert dag["errors"] == {}
    assert dag["edges"] == [["import_counts", "report_decay"]]
    assert dag["links"] == {"import_counts": ["MLflow run"], "report_decay": ["MLflow run"]}
    assert "No record is changed" in dag["docs"]
    assert not {"tensorflow", "mlflow", "boto3", "numpy"} & set(dag["loaded"])


def test_the_form_is_the_step_s_arguments(dag):
    assert set(dag["params"]) == {each.name for each in settings_of(OutcomesConfig)}
    assert all(title and description.endswith(".") for title, _, description in dag["shown"].values())
    assert {section for _, section, _ in dag["shown"].values() if section} == {"How many to count"}


@pytest.mark.parametrize("name", BAD)
def test_the_form_refuses_what_is_wrong_and_nothing_else(dag, name):
    assert dag["refused"][name] == BAD[name]
