"""The DAG's shape, its form, and what reading it costs."""

from itertools import pairwise

import pytest

from bincount.config import ApprovalConfig, FormConfig
from bincount.schema import settings_of
from tests.dags.reading import read_bag, read_dag

SHARING = ["plan", "fetch", "extract"]
CHAIN = ["ingest", "prepare", "tune", "train", "evaluate", "register", "gate"]
CHAIN += ["check_serving", "approve", "promote", "verify_serving"]

# What the form refuses, and what it takes besides the defaults.
BAD = {
    "source": ["", "sample", "/etc", "s3://", "s3://UPPER", "s3://a b", "s3://x; rm -rf /"],
    "limit": [0, -1, 1.5, "all"],
    "counts": ["", "5", "1-", "1-5;ls", "a-b"],
    "backbone": ["", "Res Net", "../x"],
    "weights": [""],
    "fit": ["crop", ""],
    "image_px": [0, 31, 1025, "224"],
    "partitions": [0, 65, 1.5, None],
    "trials": [0, 1001],
    "max_epochs": [0, 1001],
    "search": ["", "hyperband"],
    "tune_also": ["", "learning_rate", "dropout,", "units;ls"],
    "loss_mix": [-0.1, 1.5, "some"],
    "fine_tune_epochs": [-1, 1001],
    "seed": [-1, 2**31, 0.5],
    "require_approval": ["yes", 1],
    "approval_minutes": [0, 43201, 1.5],
}
GOOD = {
    "source": ["s3://aft-vbi-pds"],
    "limit": [None, 1, 400],
    "counts": ["0-5+"],
    "weights": ["/a file"],
    "partitions": [64],
    "search": ["bayesian", "grid"],
    "tune_also": [None, "units", "dropout,units,loss_mix"],
    "loss_mix": [None, 0, 0.3],
}


@pytest.fixture(scope="module")
def dag(tmp_path_factory):
    values = {name: BAD[name] + GOOD.get(name, []) for name in BAD}
    return read_dag(tmp_path_factory.mktemp("airflow"), "train_bin_counter", values)


def test_it_can_be_read(dag):
    assert dag["errors"] == {}
    assert "train_bin_counter" in dag["dags"]
    assert dag["docs"]
    assert dag["tags"] == ["bincount"]
    assert dag["max_active_runs"] == 1


def test_the_tasks_are_one_chain(dag):
    # Promotion goes on with what the gate said, whether or not there was anything to check and to approve.
    said = [["gate", "approve"], ["gate", "promote"]]
    shared = [
        ["plan", "fetch"],
        ["fetch", "ingest"],
        ["plan", "extract"],
        ["ingest", "extract"],
        ["extract", "prepare"],
    ]
    assert dag["edges"] == sorted([*map(list, pairwise(CHAIN)), *said, *shared])


def test_only_an_approval_may_be_skipped(dag):
    assert dag["mapped"] == ["fetch", "extract"]
    lenient = {task: rule for task, rule in dag["rules"].items() if rule != "all_success"}
    assert lenient == {"promote": "none_failed"}, "it follows an approval that nobody asked for"


def test_one_slot_guards_what_trains(dag):
    assert {task for task, pool in dag["pools"].items() if pool == "gpu"} == {"extract", "prepare", "tune", "train"}


def test_an_extraction_is_shared_by_the_workers_that_the_operator_names(dag, tmp_path):
    assert dag["queues"]["extract"] == dag["queues"]["prepare"] == "gpu"
    shared = read_dag(tmp_path, "train_bin_counter", {}, AIRFLOW__BINCOUNT__EXTRACT_QUEUE="cpu")
    assert shared["queues"]["extract"] == "cpu"
    assert shared["pools"]["extract"] == "default_pool"
    assert shared["queues"]["prepare"] == "gpu"


def test_each_task_links_to_its_mlflow_run(dag):
    linked = ["extract", *CHAIN]
    assert dag["links"] == {task: ["MLflow run"] if task in linked else [] for task in SHARING + CHAIN}
    assert dag["retries"] == {task: 0 if task == "approve" else 2 for task in SHARING + CHAIN}
    assert set(dag["waits_s"].values()) == {30}, "with them a minute without a server is borne"
    assert dag["told"]


def test_the_form_is_the_schema_of_settings(dag):
    settings = [*settings_of(FormConfig), *settings_of(ApprovalConfig)]
    assert list(dag["params"]) == [each.name for each in settings]
    assert dag["params"] == {each.name: "s3://bins" if each.is_required else each.default for each in settings}
    assert list(dag["shown"]) == list(dag["params"])
    for name, (title, section, description) in dag["shown"].items():
        assert title, name
        assert section in (None, "Learning", "Effort", "Promotion"), name
        assert description.endswith("."), name
    in_sight = [name for name, (_, section, _) in dag["shown"].items() if section is None]
    assert in_sight == ["source", "limit", "counts", "seed"], "Airflow folds the others until they are asked for"


@pytest.mark.parametrize("name", BAD)
def test_the_form_refuses_what_is_wrong_and_nothing_else(dag, name):
    assert dag["refused"][name] == BAD[name]


def test_reading_it_loads_nothing_heavy(dag):
    assert not {"tensorflow", "keras", "mlflow", "boto3", "numpy"} & set(dag["loaded"])


def test_the_bite_of_the_loading_check(tmp_path):
    (tmp_path / "heavy.py").write_text(
        "import numpy\nfrom airflow.sdk import dag\n@dag\ndef train_bin_counter(): ...\ntrain_bin_counter()\n"
    )
    assert read_bag(tmp_path, "print(json.dumps('numpy' in loaded))", folder=tmp_path)
