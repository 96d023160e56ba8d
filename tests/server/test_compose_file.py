"""The Compose files as Compose reads them: parsed, closed, complete; no engine is needed."""

import shutil

import pytest
import yaml

from bincount.server.doctor import address_of, check_file
from bincount.server.engine import Engine, compose_command
from bincount.server.secrets import write_secrets

pytestmark = pytest.mark.skipif(not compose_command(), reason="no Compose on this machine: its files were not read")
CELERY = "docker-compose.yml:docker-compose.celery.yml"
OVERLAYS = [
    "docker-compose.yml",
    CELERY,
    "docker-compose.yml:docker-compose.gpu.yml",
    f"{CELERY}:docker-compose.gpu.yml:docker-compose.celery-gpu.yml",
]


def services_of(folder, files="docker-compose.yml", **settings):
    env_file = folder / "env"
    write_secrets(env_file)
    with env_file.open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in settings.items())
    engine = Engine(env_file, "bincount-read", {"COMPOSE_FILE": files, "COMPOSE_PROFILES": "sample"})
    return yaml.safe_load(engine.compose("config"))["services"]


@pytest.mark.parametrize("files", OVERLAYS)
def test_every_set_of_files_is_closed(tmp_path, files):
    services = services_of(tmp_path, files)
    assert not [finding for finding in check_file(services) if not finding.ok]
    for name, service in services.items():
        assert service["mem_limit"], name
        assert service["logging"]["options"], name
        assert service.get("healthcheck") or service["restart"] == "no", name
        assert service["image"].rpartition(":")[2] not in {"", "latest"}, name


def test_a_worker_has_all_that_the_scheduler_has(tmp_path):
    services = services_of(tmp_path, CELERY)
    scheduler, worker = services["scheduler"]["environment"], services["worker"]["environment"]
    # What concerns the scheduler itself, the API server or the DAG processor, and no task.
    only = ("API__", "CORE__DAGS_ARE", "CORE__PARALLELISM", "DAG_PROCESSOR__", "SCHEDULER__")
    differing = {
        name
        for name in {*scheduler, *worker}
        if scheduler.get(name) != worker.get(name) and not name.removeprefix("AIRFLOW__").startswith(only)
    }
    assert differing == {"BROKER_URL"}
    assert services["worker-gpu"]["environment"] == worker


def test_what_an_operator_writes_as_json_arrives(tmp_path):
    form = '{"source": "s3://stock", "cron": "0 5 * * *"}'
    services = services_of(tmp_path, CELERY, AIRFLOW__BINCOUNT__RECONCILE_INVENTORY=f"'{form}'")
    for name in ("scheduler", "dag-processor", "worker"):
        assert services[name]["environment"]["AIRFLOW__BINCOUNT__RECONCILE_INVENTORY"] == form


def test_listening_for_others_is_seen(tmp_path):
    services = services_of(tmp_path, BINCOUNT_BIND="10.0.0.1")
    (finding,) = [finding for finding in check_file(services) if not finding.ok]
    assert (finding.check, finding.needed) == ("loopback", False)
    assert "10.0.0.1" in finding.found


@pytest.mark.parametrize(
    ("service", "name", "value", "check"),
    [
        ("scheduler", "AIRFLOW__API_AUTH__JWT_SECRET", "another", "airflow-jwt"),
        ("api-server", "AIRFLOW__CORE__AUTH_MANAGER", "a.SimpleAuthManager", "airflow-users"),
        ("mlflow", "MLFLOW_SERVER_ALLOWED_HOSTS", "*", "mlflow-hosts"),
        ("model-server", "BINCOUNT_SERVING_TOKEN", "", "model-token"),
    ],
)
def test_what_was_opened_is_seen(tmp_path, service, name, value, check):
    services = services_of(tmp_path)
    services[service]["environment"][name] = value
    assert [finding.check for finding in check_file(services) if not finding.ok] == [check]


@pytest.mark.parametrize(
    "port", ["127.0.0.1:8081:8080/tcp", {"host_ip": "127.0.0.1", "published": "8081", "target": 8080}]
)
def test_an_address_is_read_from_either_compose(port):
    assert address_of({"ports": [port]}, 8080) == "http://127.0.0.1:8081"


def test_without_secrets_nothing_starts(tmp_path):
    (tmp_path / "env").touch()
    engine = Engine(tmp_path / "env", "bincount-read")
    with pytest.raises(Exception, match="make secrets"):
        engine.compose("config")


def test_compose_is_what_make_takes():
    assert compose_command()[0] in {shutil.which("docker"), shutil.which("docker-compose")}
