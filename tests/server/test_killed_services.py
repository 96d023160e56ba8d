"""Each service killed in turn in the midst of a run: green after its restart. Prints the table of docs/server.md."""

import logging
import time

import pytest

from tests.processes import wait_until
from tests.server.stack import QUICK, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("_engine")]
log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def server(tmp_path_factory, _engine):
    with started(tmp_path_factory.mktemp("killed"), "bincount-killed", TASK_HEARTBEAT_TIMEOUT=60) as server:
        yield server


@pytest.mark.parametrize(
    ("service", "during"),
    [
        ("postgres", "prepare"),
        ("api-server", "tune"),
        ("scheduler", "train"),
        ("dag-processor", "prepare"),
        ("triggerer", "prepare"),
        ("mlflow", "tune"),
        ("model-server", "evaluate"),
        ("bucket", "ingest"),
    ],
)
def test_a_run_outlives_a_killed_service(server, service, during):
    run = server.trigger(**QUICK, seed=len(service) + sum(map(ord, service)))  # each run fetches bins of its own
    wait_until(lambda: state_of(server, run, during) == "running", f"{during} begins", 600)
    began = time.monotonic()
    container = server.engine.service(service).container
    server.engine.docker("kill", container)
    time.sleep(5)
    server.engine.docker("start", container)  # docker kill counts as told to stop: the restart policy leaves it
    server.up()
    healthy_s = time.monotonic() - began
    ended = server.follow(run)
    tried = [f"{task.label} {task.attempt}" for task in server.airflow.tasks(run) if task.attempt > 1]
    log.warning(
        "| %s | %s | %.0f s | %s | %s |", service, during, healthy_s, ended, "tried again: " + ", ".join(tried or ["-"])
    )
    assert ended == "success", server.explain(run)


def test_what_dies_by_itself_is_started_again(server):
    model = server.engine.service("model-server")
    server.engine.docker("exec", model.container, "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")
    wait_until(lambda: server.engine.service("model-server").health == "healthy", "it comes back", 180)


def state_of(server, run, name):
    return next((task.state for task in server.airflow.tasks(run) if task.name == name), None)
