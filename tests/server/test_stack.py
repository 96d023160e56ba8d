"""The real docker-compose.yml on a real engine, from nothing: healthy, closed, a green run, a prediction, restored."""

import base64
import json
import logging
import shutil
import time

import pytest

from bincount.server.backup import back_up, restore
from bincount.server.doctor import check_server
from tests.server.stack import started, status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("_engine")]
log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def server(tmp_path_factory, _engine):
    with started(tmp_path_factory.mktemp("server"), "bincount-test") as server:
        yield server


@pytest.fixture(scope="module")
def run(server):
    """The id of a green run of the DAG with its defaults, triggered over REST with a login."""
    began = time.monotonic()
    run = server.trigger()
    assert server.follow(run) == "success", server.explain(run)
    log.warning("the run was green after %.0f s", time.monotonic() - began)
    return run


def test_all_services_are_healthy(server):
    services = server.engine.services()
    assert {one.name for one in services} == {
        "airflow-init", "api-server", "bucket", "dag-processor", "mlflow", "model-server", "postgres", "scheduler",
        "triggerer",
    }  # fmt: skip
    assert all(one.ready for one in services)


def test_doctor_finds_nothing(server):
    wrong = [result for result in check_server(server.engine) if not result.ok]
    assert not wrong


@pytest.mark.parametrize(
    ("part", "path", "refused"),
    [
        ("AIRFLOW", "/ui/dags", {401}),
        ("AIRFLOW", "/api/v2/dags", {401}),
        ("AIRFLOW", "/api/v2/connections", {401}),
        ("MLFLOW", "/", {401}),
        ("MLFLOW", "/api/2.0/mlflow/registered-models/search", {401}),
        ("MLFLOW", "/api/2.0/mlflow-artifacts/artifacts", {401}),
        ("MODEL", "/model", {401}),
        ("MODEL", "/metrics", {401}),
    ],
)
def test_nobody_gets_in_without_a_login(server, part, path, refused):
    assert status(server.url(part) + path) in refused


def test_a_wrong_password_and_another_host_are_refused(server):
    wrong = base64.b64encode(b"admin:password").decode()
    models = server.url("MLFLOW") + "/api/2.0/mlflow/registered-models/search"
    assert status(models, Authorization=f"Basic {wrong}") == 401
    assert status(server.url("MLFLOW") + "/", Host="evil.example") == 403


def test_every_database_is_on_postgres_and_closed_to_the_other(server):
    postgres = server.engine.service("postgres").container

    def psql(user, database, query):
        address = f"postgresql://{user}:{server.secrets[user.upper() + '_DB_PASSWORD']}@127.0.0.1/{database}"
        return server.engine.docker("exec", postgres, "psql", "--tuples-only", "--no-align", address, "-c", query)

    for user, database, table in (
        ("airflow", "airflow", "dag_run"),
        ("mlflow", "mlflow", "runs"),
        ("mlflow", "mlflow_auth", "users"),
    ):
        assert int(psql(user, database, f"SELECT count(*) FROM {table}")) >= 0  # noqa: S608
    with pytest.raises(Exception, match="permission denied"):
        psql("mlflow", "airflow", "SELECT 1")


def test_the_chain_is_green_and_serves_a_champion(server, run):
    promoted = server.airflow.result_of(run, "promote")
    assert promoted["promoted"] is True, promoted
    assert server.airflow.result_of(run, "verify_serving")["verified"] > 0
    assert server.model()["version"] == promoted["model_version"]
    with server.client() as client:
        (answer,) = client.count([server.photo()])
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_a_tasks_log_and_its_way_to_mlflow_are_seen(server, run):
    tasks = {task.name: task for task in server.airflow.tasks(run)}
    lines = "\n".join(server.airflow.log_lines(run, tasks["train"]))
    assert "$ " in lines
    assert "MLflow run: http://localhost:5000/#/runs/" in lines


def test_a_restored_backup_serves_the_same_champion(server, run):
    photo = server.photo()
    before = server.model()["version"]
    with server.client() as client:
        answered = client.count([photo])
    backup = server.folder / "backup"
    began = time.monotonic()
    sizes = back_up(server.engine, backup)
    log.warning(
        "backed up %.0f MB in %.0f s: %s", sum(sizes.values()) / 1e6, time.monotonic() - began, json.dumps(sizes)
    )
    assert backup.stat().st_mode & 0o077 == 0

    server.wipe()
    shutil.move(server.env_file, server.folder / "old-env")
    began = time.monotonic()
    restore(server.engine, backup)
    log.warning("restored in %.0f s, healthy after %.0f s more", time.monotonic() - began, server.up())

    assert server.airflow.run_state(run) == "success"
    until = time.monotonic() + 120
    while server.model().get("version") != before and time.monotonic() < until:
        time.sleep(1)
    assert server.model()["version"] == before
    with server.client() as client:
        (now,), (then,) = client.count([photo]), answered
    assert now["count"] == then["count"]
    assert now["probabilities"] == pytest.approx(then["probabilities"], abs=1e-3)
