"""The Compose files as Compose reads them: parsed, closed, complete; no engine is needed."""

import json

import pytest
import yaml

from bincount.server.doctor import address_of, check_config
from bincount.server.engine import Engine, has_compose
from bincount.server.secrets import read_env, write_secrets
from bincount.settings import read_endpoints

pytestmark = pytest.mark.skipif(not has_compose(), reason="Compose 2 is not installed: its files were not read")
CELERY = "docker-compose.yml:docker-compose.celery.yml"
MONITORING = "docker-compose.yml:docker-compose.monitoring.yml"
OBJECTS = f"{CELERY}:docker-compose.object-storage.yml"
RUNS_TASKS = ("worker", "worker-gpu")
OVERLAYS = [
    "docker-compose.yml",
    CELERY,
    "docker-compose.yml:docker-compose.gpu.yml",
    f"{CELERY}:docker-compose.gpu.yml:docker-compose.celery-gpu.yml",
    MONITORING,
    f"{CELERY}:docker-compose.monitoring.yml",
    OBJECTS,
    f"{OBJECTS}:docker-compose.monitoring.yml",
    f"{CELERY}:docker-compose.gpu.yml:docker-compose.celery-gpu.yml:docker-compose.object-storage.yml",
]


def read(folder, files="docker-compose.yml", profiles="sample,objects", **settings):
    """The files as Compose reads them."""
    env_file = folder / "env"
    write_secrets(env_file)
    with env_file.open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in settings.items())
    engine = Engine(env_file, "bincount-read", {"COMPOSE_FILE": files, "COMPOSE_PROFILES": profiles})
    return yaml.safe_load(engine.compose("config"))


def services_of(folder, files="docker-compose.yml", **settings):
    return read(folder, files, **settings)["services"]


@pytest.mark.parametrize("files", OVERLAYS)
def test_every_set_of_files_is_closed(tmp_path, files):
    services = services_of(tmp_path, files)
    assert not [result for result in check_config(services) if not result.ok]
    for name, service in services.items():
        assert service["mem_limit"], name
        assert service["logging"]["options"], name
        assert service.get("healthcheck") or service["restart"] == "no", name
        assert service["image"].rpartition(":")[2] not in {"", "latest"}, name


def test_a_worker_has_all_that_the_scheduler_has(tmp_path):
    services = services_of(tmp_path, CELERY)
    scheduler, worker = services["scheduler"]["environment"], services["worker"]["environment"]
    assert {name for name in {*scheduler, *worker} if scheduler.get(name) != worker.get(name)} == {"BROKER_URL"}
    assert services["worker-gpu"]["environment"] == worker


def test_what_an_operator_writes_as_json_arrives(tmp_path):
    form = '{"source": "s3://stock", "cron": "0 5 * * *"}'
    services = services_of(tmp_path, CELERY, AIRFLOW__BINCOUNT__RECONCILE_INVENTORY=f"'{form}'")
    for name in ("scheduler", "dag-processor", "worker"):
        assert services[name]["environment"]["AIRFLOW__BINCOUNT__RECONCILE_INVENTORY"] == form


@pytest.mark.parametrize(
    ("settings", "buckets"),
    [
        ({}, {"bins": "http://bucket:9000"}),
        (
            {"BINCOUNT_BUCKETS": '\'{"bins": "http://a:1", "stock": "http://b:2"}\''},
            {"bins": "http://a:1", "stock": "http://b:2"},
        ),
    ],
)
def test_every_service_of_the_chain_reads_the_same_buckets(tmp_path, settings, buckets):
    services = services_of(tmp_path, CELERY, **settings)
    for name in ("scheduler", "api-server", "model-server", "worker", "worker-gpu"):
        assert read_endpoints(services[name]["environment"]["BINCOUNT_BUCKETS"], "BINCOUNT_BUCKETS") == buckets


def test_with_object_storage_no_container_mounts_the_workspace(tmp_path):
    stack = read(tmp_path, OBJECTS)
    assert "workspace" not in stack["volumes"]
    for name, service in stack["services"].items():
        mounts = service.get("volumes", [])
        assert not [one for one in mounts if "workspace" in (one.get("source") or "") + one["target"]], name
        if name in RUNS_TASKS:
            assert [one.get("source") for one in mounts] == [None], "only volumes of its own, which have no name"


def test_with_object_storage_only_workers_reach_the_bucket(tmp_path):
    stack = read(tmp_path, OBJECTS)
    services, secrets = stack["services"], read_env((tmp_path / "env").read_text())
    for name in RUNS_TASKS:
        env = services[name]["environment"]
        assert (env["BINCOUNT_WORKSPACE"], env["BINCOUNT_CACHE"]) == ("s3://bincount/workspace", "/srv/cache")
        assert env["KERAS_HOME"].startswith(env["BINCOUNT_CACHE"])
        assert (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]) == (
            secrets["OBJECTS_KEY"],
            secrets["OBJECTS_SECRET"],
        )
        assert services[name]["depends_on"]["objects-bucket"]["condition"] == "service_completed_successfully"
        assert read_endpoints(env["BINCOUNT_BUCKETS"], "")["bincount"] == "http://objects:8333"
    having = {name for name, each in services.items() if secrets["OBJECTS_SECRET"] in str(each)}
    assert having == {*RUNS_TASKS, "objects-bucket"}
    assert "ports" not in services["objects"]
    assert "ports" not in services["objects-bucket"]
    (identity,) = json.loads(stack["configs"]["objects"]["content"])["identities"]
    assert identity["credentials"] == [{"accessKey": secrets["OBJECTS_KEY"], "secretKey": secrets["OBJECTS_SECRET"]}]


@pytest.mark.parametrize("keys", [("AKIAEXAMPLE", "secret"), ("", "")], ids=["keys", "the machine's role"])
def test_with_object_storage_another_s3_is_named_in_env(tmp_path, keys):
    key, secret = keys
    stack = read(
        tmp_path,
        OBJECTS,
        profiles="",
        BINCOUNT_WORKSPACE="s3://mine/bincount",
        BINCOUNT_BUCKETS="'{}'",
        WORKSPACE_S3_KEY=key,
        WORKSPACE_S3_SECRET=secret,
        WORKSPACE_S3_REGION="eu-central-1",
    )
    assert not {"objects", "objects-bucket", "bucket"} & set(stack["services"])
    for name in RUNS_TASKS:
        service = stack["services"][name]
        env = service["environment"]
        assert (env["BINCOUNT_WORKSPACE"], env["AWS_DEFAULT_REGION"]) == ("s3://mine/bincount", "eu-central-1")
        assert (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]) == keys
        assert read_endpoints(env["BINCOUNT_BUCKETS"], "") == {}
        assert stack["services"]["model-server"]["environment"].keys().isdisjoint({"AWS_ACCESS_KEY_ID"})


def test_listening_for_others_is_seen(tmp_path):
    services = services_of(tmp_path, BINCOUNT_BIND="10.0.0.1")
    (result,) = [result for result in check_config(services) if not result.ok]
    assert (result.check, result.needed) == ("loopback", False)
    assert "10.0.0.1" in result.found


def test_prometheus_asks_for_no_login_and_stays_on_this_machine(tmp_path):
    services = services_of(tmp_path, MONITORING, BINCOUNT_BIND="10.0.0.1")
    assert [port["host_ip"] for port in services["prometheus"]["ports"]] == ["127.0.0.1"]
    assert [port["host_ip"] for port in services["grafana"]["ports"]] == ["10.0.0.1"]
    grafana = services["grafana"]["environment"]
    assert len(grafana["GF_SECURITY_ADMIN_PASSWORD"]) >= 44
    assert (grafana["GF_AUTH_ANONYMOUS_ENABLED"], grafana["GF_USERS_ALLOW_SIGN_UP"]) == ("false", "false")


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
    assert [result.check for result in check_config(services) if not result.ok] == [check]


@pytest.mark.parametrize(
    ("host", "address"),
    [("10.0.0.1", "http://10.0.0.1:8081"), ("0.0.0.0", "http://127.0.0.1:8081")],  # noqa: S104
)
def test_the_address_of_a_published_port_is_found(tmp_path, host, address):
    services = services_of(tmp_path, BINCOUNT_BIND=host, AIRFLOW_PORT=8081)
    assert address_of(services["api-server"], 8080) == address
    with pytest.raises(LookupError, match="port 1 is not published"):
        address_of(services["api-server"], 1)


def test_without_secrets_nothing_starts(tmp_path):
    (tmp_path / "env").touch()
    engine = Engine(tmp_path / "env", "bincount-read")
    with pytest.raises(Exception, match="make secrets"):
        engine.compose("config")
