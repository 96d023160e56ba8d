"""The DAG that reconciles: its shape, its form, and when it runs by itself."""

import json

import pytest

from bincount.config import ReconcileConfig
from bincount.schema import settings_of
from tests.dags.reading import read_bag, read_dag

BAD = {
    "source": ["", "/etc", "sample", "s3://a b", "file:///etc"],
    "records": [
        "",
        "/etc/passwd",
        "../stock.csv",
        "a/b.csv",
        ".csv",
        "stock.xlsx",
        "-x.csv",
        "s3://bins/a.csv",
        "a\n.csv",
    ],
    "model": ["", "models:/other/1", "runs:/0a/model", "models:/bincount"],
    "capacity": [0, 1.5, "many"],
    "count_cost": [-1, "much"],
    "miss_cost": [-0.5],
    "error_rate": [0, 1, "2 %"],
    "alpha": [0, 1, None],
    "blind": ["yes", 1],
    "confirmed": ["/etc/passwd", "../a.csv"],
    "contents": ["a/b.csv", "-x.csv"],
}
GOOD = {
    "source": ["s3://aft-vbi-pds"],
    "records": [None, "stock.csv", "2026-11-22_a.parquet"],
    "model": ["models:/bincount/3", "models:/bincount@previous"],
    "capacity": [None, 50],
    "count_cost": [None, 0, 2.5],
    "miss_cost": [None, 40],
    "error_rate": [None, 0.02],
    "alpha": [0.1],
    "blind": [True],
    "confirmed": [None, "confirmed.csv"],
    "contents": [None, "contents.parquet"],
}
# What each DAG waits for and publishes.
SCHEDULES = """
from airflow.sdk import Asset

def listens(dag):
    condition = getattr(dag.timetable, "asset_condition", None)
    return sorted(asset.name for asset in condition.objects) if condition else []

print(json.dumps({
    "errors": bag.import_errors,
    "watched": {
        name: [(watcher.name, *watcher.trigger.serialize()) for asset in dag.timetable.asset_condition.objects
               for watcher in asset.watchers]
        for name, dag in bag.dags.items() if listens(dag)
    },
    "listens": {name: listens(dag) for name, dag in bag.dags.items()},
    "publishes": {
        name: {task.task_id: [asset.name for asset in task.outlets] for task in dag.tasks if task.outlets}
        for name, dag in bag.dags.items()
    },
    "clock": [str(getattr(getattr(dag.timetable, "timetable", None), "expression", ""))
              for dag in [bag.dags.get("reconcile_inventory")] if dag],
    "deadlines": {name: [str(alert.interval) for alert in dag.deadline or ()] for name, dag in bag.dags.items()},
    "params": {name: {key: param.value for key, param in dag.params.items()} for name, dag in bag.dags.items()},
}, default=str))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="module")
def dag(home):
    return read_dag(home, "reconcile_inventory", {name: BAD[name] + GOOD[name] for name in BAD})


def test_it_reconciles_then_reports_drift(dag):
    assert dag["errors"] == {}
    assert dag["edges"] == [["reconcile", "report_drift"]]
    assert dag["links"] == {"reconcile": ["MLflow run", "Worklist"], "report_drift": ["MLflow run"]}
    assert dag["retries"] == {"reconcile": 2, "report_drift": 2}
    assert dag["pools"]["reconcile"] == "gpu"
    assert dag["told"]
    assert dag["max_active_runs"] == 1
    assert "No record is changed" in dag["docs"]
    assert not {"tensorflow", "mlflow", "boto3", "numpy"} & set(dag["loaded"])


def test_the_form_is_the_step_s_arguments(dag):
    settings = {each.name: each for each in settings_of(ReconcileConfig)}
    assert list(dag["params"]) == list(settings)
    assert list(dag["shown"]) == list(dag["params"])
    for name, (title, section, description) in dag["shown"].items():
        assert title, name
        assert section in (None, "How many to count", "How to judge"), name
        assert description.endswith("."), name
        if not settings[name].is_required:
            assert dag["params"][name] == settings[name].default, name
    assert "0-5+ can judge every record" in dag["shown"]["model"][2]
    in_sight = [name for name, (_, section, _) in dag["shown"].items() if section is None]
    assert in_sight == ["source", "records", "confirmed", "contents", "model"]


@pytest.mark.parametrize("name", BAD)
def test_the_form_refuses_what_is_wrong_and_nothing_else(dag, name):
    assert dag["refused"][name] == BAD[name]


def test_who_publishes_and_who_listens(home):
    found = read_bag(home, SCHEDULES)
    assert found["errors"] == {}
    champion = ["bincount_champion"]
    assert found["listens"] == {
        "train_bin_counter": [],
        "rollback_bin_counter": [],
        "reconcile_inventory": champion,
        "import_outcomes": [],
    }
    assert found["publishes"] == {
        "train_bin_counter": {},
        "rollback_bin_counter": {},
        "reconcile_inventory": {"report_drift": ["bincount_drift_seen"]},
        "import_outcomes": {"report_decay": ["bincount_drift_seen"]},
    }
    # Nothing but the watcher publishes the champion: one event a change, however the alias is moved.
    trigger = "bincount.tracking.champion_trigger.ChampionTrigger"
    assert found["watched"] == {"reconcile_inventory": [["champion", trigger, {}]]}
    assert found["clock"] == [""]
    assert not any(found["deadlines"].values())


def test_a_setting_fills_the_form_and_sets_the_clock(home):
    form = {"source": "s3://stock", "records": "stock.csv", "capacity": 50, "cron": "0 5 * * *", "deadline_minutes": 90}
    found = read_bag(
        home,
        SCHEDULES,
        AIRFLOW__BINCOUNT__RECONCILE_INVENTORY=json.dumps(form),
        AIRFLOW__BINCOUNT__TRAIN_BIN_COUNTER='{"source": "s3://stock", "limit": 5000}',
    )
    assert found["errors"] == {}
    assert found["listens"]["reconcile_inventory"] == ["bincount_champion"]
    assert found["listens"]["train_bin_counter"] == ["bincount_drift"]
    assert found["clock"] == ["0 5 * * *"]
    assert found["deadlines"].pop("reconcile_inventory") == ["1:30:00"]
    assert not any(found["deadlines"].values())
    del form["cron"], form["deadline_minutes"]
    assert found["params"]["reconcile_inventory"].items() >= form.items()
    assert found["params"]["train_bin_counter"]["limit"] == 5000


WRONG = {
    "s3://stock": "must be a JSON object",
    "[]": "must be a JSON object",
    '{"bucket": "s3://stock"}': "must name fields of the form, got 'bucket'",
    '{"source": "/etc"}': "does not match",
    '{"source": "s3://stock", "cron": "daily at five"}': "cron must be such as",
    '{"deadline_minutes": 0}': "deadline_minutes must be a number above 0 and up to 43200, got 0.",
    '{"deadline_minutes": "soon"}': "deadline_minutes must be a number above 0",
}
ERRORS = """
import os

errors = {}
for form in json.loads(sys.argv[2]):
    os.environ["AIRFLOW__BINCOUNT__RECONCILE_INVENTORY"] = form
    errors[form] = BundleDagBag(sys.argv[1], bundle_path=Path(sys.argv[1])).import_errors
print(json.dumps(errors))
"""


def test_a_wrong_setting_is_an_import_error(home):
    errors = read_bag(home, ERRORS, json.dumps(list(WRONG)))
    for form, words in WRONG.items():
        assert [path.rsplit("/", 1)[-1] for path in errors[form]] == ["reconcile_inventory.py"], form
        assert words in next(iter(errors[form].values()))
