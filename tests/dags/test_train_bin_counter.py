"""The DAG's shape, its form, and what reading it costs."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARING = ["plan", "fetch"]
CHAIN = ["ingest", "prepare", "tune", "train", "evaluate", "register", "ask_gate"]
CHAIN += ["check_serving", "approve", "promote", "verify_serving"]

# Airflow writes its configuration on import and warns at will, so it is read in a process and a home of its own.
READ = """
import json, socket, sys

def refuse(*_):
    raise AssertionError("reading the DAG opened a connection")

socket.socket.connect = refuse
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag

before = set(sys.modules)
bag = BundleDagBag({dags!r}, bundle_path=Path({dags!r}))
loaded = {{name.split(".")[0] for name in set(sys.modules) - before}}
dag = bag.dags["train_bin_counter"]

def refusals(name, values):
    refused = []
    for value in values:
        param = dag.params.get_param(name)
        try:
            param.resolve(value)
        except Exception as error:
            refused.append(value)
    return refused

print(json.dumps({{
    "errors": bag.import_errors,
    "dags": list(bag.dags),
    "loaded": sorted(loaded),
    "edges": sorted((task.task_id, after) for task in dag.tasks for after in task.downstream_task_ids),
    "pools": {{task.task_id: task.pool for task in dag.tasks}},
    "mapped": [task.task_id for task in dag.tasks if task.is_mapped],
    "retries": {{task.task_id: task.retries for task in dag.tasks}},
    "waits_s": {{task.task_id: task.retry_delay.total_seconds() for task in dag.tasks}},
    "rules": {{task.task_id: task.trigger_rule for task in dag.tasks}},
    "told": dag.has_on_failure_callback,
    "links": {{task.task_id: [link.name for link in task.operator_extra_links] for task in dag.tasks}},
    "params": {{name: param.resolve() for name, param in dag.params.items()}},
    "shown": {{
        name: [param.schema.get("title"), param.schema.get("section"), param.description]
        for name in dag.params
        for param in [dag.params.get_param(name)]
    }},
    "docs": dag.doc_md, "tags": sorted(dag.tags), "max_active_runs": dag.max_active_runs,
    "refused": {{name: refusals(name, values) for name, values in json.loads(sys.argv[1]).items()}},
}}))
"""

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


def read_dag(home, source, values):
    """What a program that reads a DAG prints of it, in a home of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    answer = subprocess.run(
        [sys.executable, "-c", source.format(dags=str(ROOT / "dags")), json.dumps(values)],
        env=env | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return json.loads(answer.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def dag(tmp_path_factory):
    return read_dag(tmp_path_factory.mktemp("airflow"), READ, {name: BAD[name] + GOOD.get(name, []) for name in BAD})


def test_it_can_be_read(dag):
    assert dag["errors"] == {}
    assert "train_bin_counter" in dag["dags"]
    assert dag["docs"]
    assert dag["tags"] == ["bincount"]
    assert dag["max_active_runs"] == 1


def test_the_tasks_are_one_chain(dag):
    # Promotion goes on with what the gate said, whether or not there was anything to check and to approve.
    said = [["ask_gate", "approve"], ["ask_gate", "promote"]]
    assert dag["edges"] == sorted([*map(list, pairwise(SHARING + CHAIN)), *said])


def test_what_may_be_skipped_holds_up_nothing(dag):
    assert dag["mapped"] == ["fetch"]
    # With one partition plan and fetch are skipped; without a need, check and approval are.
    lenient = {task: rule for task, rule in dag["rules"].items() if rule != "all_success"}
    assert lenient == {"ingest": "none_failed", "promote": "none_failed"}


def test_one_slot_guards_what_trains(dag):
    assert [task for task in CHAIN if dag["pools"][task] == "gpu"] == ["prepare", "tune", "train"]


def test_each_task_links_to_its_mlflow_run(dag):
    assert dag["links"] == {task: ["MLflow run"] if task in CHAIN else [] for task in SHARING + CHAIN}
    assert dag["retries"] == {task: 0 if task == "approve" else 2 for task in SHARING + CHAIN}
    assert set(dag["waits_s"].values()) == {30}, "with them a minute without a server is borne"
    assert dag["told"]


def test_the_form_is_the_chains_configuration(dag):
    from bincount.core.config import ChainConfig

    # How many fetch and who approves is Airflow's affair: what comes of the chain does not depend on it.
    airflows = {"partitions": 1, "require_approval": False, "approval_minutes": 1440}
    chain = {name: value for name, value in dag["params"].items() if name not in airflows}
    assert ChainConfig(**chain) == ChainConfig(source="s3://bins")
    assert set(chain) == {field.name for field in fields(ChainConfig)}
    assert dag["params"] == chain | airflows
    assert list(dag["shown"]) == list(dag["params"])
    for name, (title, section, description) in dag["shown"].items():
        assert title, name
        assert section in ("Data", "Learning", "Effort", "Promotion"), name
        assert description.endswith("."), name


@pytest.mark.parametrize("name", BAD)
def test_the_form_refuses_what_is_wrong_and_nothing_else(dag, name):
    assert dag["refused"][name] == BAD[name]


def test_reading_it_loads_nothing_heavy(dag):
    assert not {"tensorflow", "keras", "mlflow", "boto3", "bincount", "numpy"} & set(dag["loaded"])


def test_the_bite_of_the_loading_check(tmp_path):
    (tmp_path / "heavy.py").write_text(
        "import bincount\nfrom airflow.sdk import dag\n@dag\ndef train_bin_counter(): ...\ntrain_bin_counter()\n"
    )
    source = READ.format(dags=str(tmp_path)).split("dag = bag.dags")[0] + "print('bincount' in loaded)"
    env = os.environ | {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", source], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == "True"
