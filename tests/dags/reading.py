"""Reading the DAGs as Airflow does, in a process of its own: Airflow writes its configuration on import."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_OPEN = """
import json, socket, sys

def refuse(*_):
    raise AssertionError("reading the DAG opened a connection")

socket.socket.connect = refuse
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag

before = set(sys.modules)
bag = BundleDagBag(sys.argv[1], bundle_path=Path(sys.argv[1]))
loaded = {name.split(".")[0] for name in set(sys.modules) - before}
"""

_ONE = """
from airflow.sdk.definitions._internal.types import is_arg_set

dag = bag.dags[sys.argv[2]]

def refusals(name, values):
    refused = []
    for value in values:
        param = dag.params.get_param(name)
        try:
            param.resolve(value)
        except Exception as error:
            refused.append(value)
    return refused

print(json.dumps({
    "errors": bag.import_errors,
    "dags": list(bag.dags),
    "loaded": sorted(loaded),
    "edges": sorted((task.task_id, after) for task in dag.tasks for after in task.downstream_task_ids),
    "pools": {task.task_id: task.pool for task in dag.tasks},
    "queues": {task.task_id: task.queue for task in dag.tasks},
    "mapped": [task.task_id for task in dag.tasks if task.is_mapped],
    "retries": {task.task_id: task.retries for task in dag.tasks},
    "waits_s": {task.task_id: task.retry_delay.total_seconds() for task in dag.tasks},
    "rules": {task.task_id: task.trigger_rule for task in dag.tasks},
    "told": dag.has_on_failure_callback,
    "links": {task.task_id: [link.name for link in task.operator_extra_links] for task in dag.tasks},
    "params": {name: param.resolve() for name, param in dag.params.items() if is_arg_set(param.value)},
    "shown": {
        name: [param.schema.get("title"), param.schema.get("section"), param.description]
        for name in dag.params
        for param in [dag.params.get_param(name)]
    },
    "docs": dag.doc_md, "tags": sorted(dag.tags), "max_active_runs": dag.max_active_runs,
    "refused": {name: refusals(name, values) for name, values in json.loads(sys.argv[3]).items()},
}))
"""


def read_bag(home, program, *arguments, folder=ROOT / "dags", **env):
    """What a program prints that knows all DAGs of a folder as `bag`, and what reading them has `loaded`."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    own = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", _OPEN + program, str(folder), *arguments],
        env=known | own | env,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return json.loads(answer.stdout.splitlines()[-1])


def read_dag(home, dag_id, values, **env):
    """What there is to know of a DAG, and which of some values its form refuses."""
    return read_bag(home, _ONE, dag_id, json.dumps(values), **env)
