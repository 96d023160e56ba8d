"""The workspace in object storage: Celery workers that share no volume, and one killed in their midst changes nothing.

SeaweedFS's image is not needed: moto's S3 server, from bincount's own image, takes its place. moto checks no keys.
"""

import json
import logging
import time

import pytest

from tests.processes import wait_until
from tests.server.stack import QUICK, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("_engine")]
log = logging.getLogger(__name__)

FILES = "docker-compose.yml:docker-compose.celery.yml:docker-compose.object-storage.yml"
MOTO = """
services:
  objects:
    image: bincount:local
    command: ["python", "-m", "moto.server", "--host", "0.0.0.0", "--port", "8333"]
    configs: !reset []
    volumes: !reset []
    healthcheck:
      test: ["CMD", "python", "-m", "bincount.server.probe", "http://127.0.0.1:8333/moto-api/data.json"]
      interval: 5s
  bucket:
    command:
      - sh
      - -c
      - |
        set -e
        python -m bincount.local.sample.render --folder /srv/sample/bins --bins "$$SAMPLE_BINS"
        python - <<PY
        import os
        from pathlib import Path
        for photo in Path("/srv/sample/bins/bin-images").iterdir():
            data = photo.read_bytes()
            if len(data) < 2 * 65_000:
                comment = b"\\xff\\xfe" + (65_000).to_bytes(2, "big")
                padding = b"".join(comment + os.urandom(64_998) for _ in range(2))
                photo.write_bytes(data[:2] + padding + data[2:])
        PY
        exec python -m bincount.local.embedded_s3 --folder /srv/sample/bins --host 0.0.0.0 --port 9000
"""
BINS = 800  # of 165 kB, with comments in their JPEGs: two shards of at most 100 MB, so each of two partitions has one
ASKED = QUICK | {"counts": "0-5+", "limit": 780, "partitions": 2, "image_px": 128}
WORKERS = {"worker", "worker-gpu"}

# What is in the bucket below a prefix, read without bincount: the digest of each object, the holder of each lease.
LISTED = """
import boto3, hashlib, json, sys
bucket = boto3.resource("s3", endpoint_url="http://objects:8333").Bucket("bincount")
found = {}
for each in bucket.objects.filter(Prefix=f"workspace/{sys.argv[1]}"):
    data = each.get()["Body"].read()
    found[each.key.removeprefix("workspace/")] = (
        json.loads(data)["holder"] if each.key.endswith(".lock") else hashlib.sha256(data).hexdigest()
    )
print(json.dumps(found))
"""
EMPTIED = """
import boto3
boto3.resource("s3", endpoint_url="http://objects:8333").Bucket("bincount").objects.all().delete()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, _engine):
    folder = tmp_path_factory.mktemp("objects")
    (folder / "moto.yml").write_text(MOTO)
    settings = {
        "COMPOSE_FILE": f"{FILES}:{folder / 'moto.yml'}",
        "COMPOSE_PROFILES": "sample,objects",
        "TASK_HEARTBEAT_TIMEOUT": 60,
        "SAMPLE_BINS": BINS,
        "OBJECTS_MEMORY": "2g",
    }
    with started(folder, "bincount-objects", **settings) as server:
        yield server


@pytest.fixture(scope="module")
def run(server):
    """A green run of the DAG."""
    began = time.monotonic()
    run = server.trigger(**ASKED)
    assert server.follow(run) == "success", server.explain(run)
    log.warning("the run was green after %.0f s", time.monotonic() - began)
    return run


def test_no_two_workers_mount_the_same_volume_and_none_the_workspace(server):
    entries = json.loads(server.engine.docker("inspect", *(one.container for one in server.engine.services())))
    mounts = {}
    for entry in entries:
        service = entry["Config"]["Labels"]["com.docker.compose.service"]
        for mount in entry["Mounts"]:
            named = mount.get("Name") or mount["Source"]
            assert "workspace" not in named, service
            assert mount["Destination"] != "/srv/workspace", service
            mounts.setdefault(named, []).append(service)
    shared = {named: services for named, services in mounts.items() if len(services) > 1 and WORKERS & set(services)}
    assert not shared
    assert sum(service in WORKERS for services in mounts.values() for service in services) == 3, "each has its logs"


def test_only_workers_have_the_keys_of_the_bucket(server):
    entries = json.loads(server.engine.docker("inspect", *(one.container for one in server.engine.services())))
    secret = server.secrets["OBJECTS_SECRET"]
    having = {
        entry["Config"]["Labels"]["com.docker.compose.service"]
        for entry in entries
        if any(secret in value for value in entry["Config"]["Env"])
    }
    assert having == {*WORKERS, "objects-bucket"}


def test_the_run_used_every_worker_and_its_logs_are_read(server, run):
    hosts = hosts_of(server, run)
    log.warning("hosts: %s", hosts)
    workers = {one.container for one in server.engine.services() if one.name == "worker"}
    assert {hosts["fetch", "0"], hosts["fetch", "1"]} == workers
    assert {hosts["extract", "0"], hosts["extract", "1"]} == workers
    assert hosts["train", "-1"] == server.engine.service("worker-gpu").container
    (train,) = [task for task in server.airflow.tasks(run) if task.name == "train"]
    assert server.airflow.log_lines(run, train), "served by the worker"


def test_manifest_and_features_are_those_of_one_machine_with_a_folder(server, run, local):
    check_equal(server, run, local)
    log.warning("manifest %s, %d files of features, as in a folder", local[0], len(local[1]))


def test_the_model_server_serves_the_champion_from_mlflow_alone(server, run):
    # A model of such a run is of no use, which the gate says too.
    version = str(server.airflow.result_of(run, "register")["model_version"])
    forced = ["promote", version, "--force", "--reason", "to be served"]
    server.engine.docker("exec", server.engine.service("worker-gpu").container, "bincount", *forced)
    wait_until(lambda: server.model()["version"] == version, "it is served", 180)
    (answer,) = server.client().count([server.photo()])
    assert answer["count"] >= 0


def test_workers_killed_while_they_fetch_and_compute_change_nothing(server, run, local):
    python(server, EMPTIED)
    for worker in WORKERS:
        for container in [one.container for one in server.engine.services() if one.name == worker]:
            server.engine.docker("exec", container, "sh", "-c", "rm -rf /srv/cache/*")
    again = server.trigger(**ASKED)
    for task, part in (("fetch", "ingests/"), ("extract", "features/")):
        wait_until(lambda task=task: states_of(server, again, task)[:1] == ["running"], f"{task} runs", 1200)
        victim = hosts_of(server, again)[task, "0"]
        wait_until(lambda part=part, victim=victim: holds(server, part, victim), f"{task} holds its lease", 900)
        server.engine.docker("kill", victim)
        assert states_of(server, again, task)[0] == "running"
        began = time.monotonic()
        wait_until(lambda task=task: states_of(server, again, task) == ["success"] * 2, "both shares are there", 1200)
        log.warning("%s: the killed worker's share was done %.0f s later", task, time.monotonic() - began)
        assert hosts_of(server, again)[task, "0"] != victim
        server.engine.docker("start", victim)
    check_equal(server, again, local)
    server.airflow.fail(again)


@pytest.fixture(scope="module")
def local(server):
    """Manifest and digests of the features of the same bins, by the command line in a folder of one container."""
    container = server.engine.service("worker-gpu").container

    def bincount(*arguments):
        folder = ["--env", "BINCOUNT_WORKSPACE=/tmp/local"]
        return json.loads(server.engine.docker("exec", *folder, container, "bincount", *arguments))

    ingested = bincount("ingest", "--source", "s3://bins", "--counts", ASKED["counts"], "--limit", str(ASKED["limit"]))
    network = ["--image-px", str(ASKED["image_px"]), "--weights", ASKED["weights"]]
    bincount("prepare", "--run-id", ingested["run_id"], "--manifest", ingested["manifest"], *network)
    listed = server.engine.docker(
        "exec", container, "sh", "-c", "cd /tmp/local && find features -name '*.npy' -exec sha256sum {} +"
    )
    return ingested["manifest"], {name: digest for digest, name in (line.split() for line in listed.splitlines())}


def check_equal(server, run, local):
    """That the run's manifest and its features in the bucket are those of the folder."""
    manifest, features = local
    assert server.airflow.result_of(run, "ingest")["manifest"] == manifest
    assert f"manifests/{manifest}.jsonl" in listed(server, "manifests/")
    found = listed(server, "features/")
    assert len(features) == 2
    assert {name: found.get(name) for name in features} == features


def python(server, code, *arguments):
    """What a program prints that runs in a worker, with its keys."""
    return server.engine.docker("exec", server.engine.service("worker-gpu").container, "python", "-c", code, *arguments)


def listed(server, prefix):
    return json.loads(python(server, LISTED, prefix))


def holds(server, prefix, host):
    """Whether a worker has the lease of a share: of its shards, or of one shard's features."""
    leases = {name: holder for name, holder in listed(server, prefix).items() if name.endswith(".lock")}
    return any(holder.startswith(host) for name, holder in leases.items() if "backbone" not in name)


def states_of(server, run, name):
    tasks = [task for task in server.airflow.tasks(run) if task.name == name]
    return [task.state for task in sorted(tasks, key=lambda task: task.map_index)]


def hosts_of(server, run):
    """The host, which is a container's id, of each task that has begun, by name and map index."""
    query = f"SELECT task_id, map_index, hostname FROM task_instance WHERE run_id = '{run}' AND hostname != ''"  # noqa: S608
    asked = ["psql", "-U", "postgres", "airflow", "--tuples-only", "--no-align", "-c", query]
    rows = server.engine.docker("exec", server.engine.service("postgres").container, *asked)
    return {(task, index): host for task, index, host in (row.split("|") for row in rows.split())}
